"""Reads and writes the DiT as a diffusers `transformer/` folder, so that released weights load here and ours load in diffusers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from imagewright.config.model import ModelConfig
from imagewright.config.recipe import explain
from imagewright.errors import InputError, Problem
from imagewright.models.dit import ErnieImageDiT

CLASS_NAME = "ErnieImageTransformer2DModel"
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
INDEX_FILE = WEIGHTS_FILE + ".index.json"
SHARD_PATTERN = "diffusion_pytorch_model{suffix}.safetensors"
MAX_JSON_BYTES = 8 << 20
MAX_NAMES_SHOWN = 5


class ModelFolderError(InputError):
    """A transformer folder that cannot be read."""


def load_transformer(folder: Path | str, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> ErnieImageDiT:
    """Builds the DiT of a diffusers folder; weights keep their stored dtype unless `dtype` is given.

    The network is built on the meta device and tensors are read one at a time, so the peak is one copy of the weights.
    Raises ModelFolderError with everything that is missing, left over or of a wrong shape.
    """
    folder = Path(folder)
    config = read_config(folder)
    files = weight_files(folder)
    with torch.device("meta"):
        model = ErnieImageDiT(config)
    state = read_tensors(folder, files, dtype, device)
    check_tensors(folder, state, model.state_dict())
    model.load_state_dict(state, assign=True)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model


def save_transformer(
    model: ErnieImageDiT, folder: Path | str, *, state: Mapping[str, Tensor] | None = None, max_shard_size: str = "10GB"
) -> None:
    """Writes config.json and safetensors exactly as diffusers does; above `max_shard_size` in shards with an index.

    state: weights to write instead of the model's own (the moving average). Raises ModelFolderError when adapters are still attached.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in (model.state_dict() if state is None else state).items()}
    with torch.device("meta"):
        expected = ErnieImageDiT(model.config).state_dict()
    check_tensors(folder, tensors, expected)
    header = {"_class_name": CLASS_NAME, "_diffusers_version": version("diffusers")}
    config = {**header, **dict(sorted(model.config.model_dump(mode="json").items()))}
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    split = split_torch_state_dict_into_shards(tensors, filename_pattern=SHARD_PATTERN, max_shard_size=max_shard_size)
    for name, keys in split.filename_to_tensors.items():
        save_file({key: tensors[key] for key in keys}, folder / name, metadata={"format": "pt"})
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / INDEX_FILE).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_config(folder: Path) -> ModelConfig:
    """The architecture in config.json. Every field must be there: diffusers' defaults are another model than ours."""
    raw = read_json(folder / CONFIG_FILE)
    if raw.get("_class_name", CLASS_NAME) != CLASS_NAME:
        raise ModelFolderError(
            Problem(f"{CONFIG_FILE}._class_name", f"must be {CLASS_NAME}", raw["_class_name"], "give a transformer folder")
        )
    fields = {name: value for name, value in raw.items() if not name.startswith("_")}
    missing = [Problem(f"{CONFIG_FILE}.{name}", "is required") for name in ModelConfig.model_fields if name not in fields]
    if missing:
        raise ModelFolderError(missing)
    try:
        return ModelConfig.model_validate_json(json.dumps(fields), strict=True)
    except ValidationError as error:
        raise ModelFolderError([explain(detail, ModelConfig) for detail in error.errors(include_url=False)]) from error


def weight_files(folder: Path) -> list[str]:
    """Names of the weight files, one or the shards of the index."""
    if (folder / WEIGHTS_FILE).is_file():
        return [WEIGHTS_FILE]
    if not (folder / INDEX_FILE).is_file():
        raise ModelFolderError(Problem("transformer", f"holds neither {WEIGHTS_FILE} nor {INDEX_FILE}", str(folder)))
    weight_map = read_json(folder / INDEX_FILE).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelFolderError(Problem(f"{INDEX_FILE}.weight_map", "must map tensor names to files"))
    files = sorted({str(name) for name in weight_map.values()})
    problems = [
        Problem(f"{INDEX_FILE}.weight_map", "must name safetensors files of this folder that exist", name)
        for name in files
        if Path(name).name != name or not name.endswith(".safetensors") or not (folder / name).is_file()
    ]
    if problems:
        raise ModelFolderError(problems)
    return files


def read_tensors(folder: Path, files: list[str], dtype: torch.dtype | None, device: torch.device | str) -> dict[str, Tensor]:
    """Every tensor of the files."""
    state: dict[str, Tensor] = {}
    for name in files:
        try:
            with safe_open(folder / name, framework="pt", device=str(device)) as reader:
                for key in reader.keys():  # noqa: SIM118 - the reader is no mapping
                    tensor: Tensor = reader.get_tensor(key)
                    state[key] = tensor if dtype is None else tensor.to(dtype)
        except (SafetensorError, OSError) as error:
            fix = "fetch the file again; it is cut short or damaged"
            raise ModelFolderError(Problem(f"transformer.{name}", f"cannot be read: {error}", None, fix)) from error
    return state


def check_tensors(folder: Path, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raises ModelFolderError unless names and shapes are those of the architecture."""
    problems = []
    for rule, names in (("lacks tensors", expected.keys() - state.keys()), ("holds unknown tensors", state.keys() - expected.keys())):
        if names:
            shown = ", ".join(sorted(names)[:MAX_NAMES_SHOWN])
            fix = "merge or remove adapters first" if any("lora_" in name or "base_layer" in name for name in names) else ""
            problems.append(Problem("transformer", f"{rule} ({len(names)} of {len(expected)})", shown, fix))
    for name in expected.keys() & state.keys():
        if expected[name].shape != state[name].shape:
            problems.append(Problem(f"transformer.{name}", f"must have shape {tuple(expected[name].shape)}", tuple(state[name].shape)))
    if problems:
        raise ModelFolderError(problems)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of bounded size."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ModelFolderError(Problem(path.name, f"must be smaller than {MAX_JSON_BYTES} bytes", path.stat().st_size))
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise ModelFolderError(Problem(path.name, f"cannot be read: {error}", str(path))) from error
    if not isinstance(loaded, dict):
        raise ModelFolderError(Problem(path.name, "must be a JSON object"))
    return loaded
