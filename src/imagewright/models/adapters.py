"""LoRA adapters on the DiT: attach, switch, switch off, save and load under diffusers' names.

One frozen base carries any number of experts; only the active one takes part in a forward pass.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import ErnieImagePipeline
from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn

from imagewright.errors import InputError, Problem
from imagewright.models.dit import ErnieImageDiT

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
WEIGHTS_FILE = "pytorch_lora_weights.safetensors"
HEADER_START = 8
"""A safetensors file begins with the length of its header in so many bytes (little-endian)."""


class AdapterError(InputError):
    """An adapter that does not fit, or is not there."""


def attach(model: ErnieImageDiT, name: str, *, rank: int, alpha: float, seed: int = 0) -> None:
    """Adds a fresh adapter to every attention projection and freezes everything else. A fresh adapter changes no output."""
    config = LoraConfig(r=rank, lora_alpha=cast(int, alpha), target_modules=list(TARGETS), init_lora_weights=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inject_adapter_in_model(config, cast(Any, model), adapter_name=name)
    activate(model, name)


def activate(model: nn.Module, name: str) -> None:
    """Makes one adapter active and the only trainable part. Raises AdapterError when the model does not carry it."""
    layers = list(tuner_layers(model))
    if not layers or any(name not in layer.lora_A for layer in layers):
        raise AdapterError(Problem("adapter", "is not attached to this model", name, "attach or load it first"))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for layer in layers:
        layer.enable_adapters(True)
        layer.set_adapter(name)


@contextmanager
def base_only(model: nn.Module) -> Iterator[None]:
    """Inside, every adapter is off and the model is its base, bit for bit."""
    layers = list(tuner_layers(model))
    was_off = [bool(layer.disable_adapters) for layer in layers]
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer, off in zip(layers, was_off, strict=True):
            layer._disable_adapters = off


def tuner_layers(model: nn.Module) -> Iterator[Any]:
    """Every layer that carries adapters."""
    return (module for module in model.modules() if isinstance(module, BaseTunerLayer))


def adapter_weights(model: nn.Module, name: str) -> dict[str, Tensor]:
    """Weights of one adapter by diffusers' names without prefix."""
    state: dict[str, Tensor] = get_peft_model_state_dict(cast(Any, model), adapter_name=name)
    return {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}


def fused(base: Mapping[str, Tensor], trained: Mapping[str, Tensor], name: str, scale: float) -> dict[str, Tensor]:
    """Plain weights of `base` with an adapter's among `trained` added: W + scale B A, scale = alpha / rank.

    The frozen weights come from `base`, not from the network that was trained: an engine in bf16 has rounded them there.
    """
    found = dict(base)
    for key in trained:
        layer, _, rest = key.partition(f".lora_B.{name}.")
        if rest == "weight":
            down = trained[f"{layer}.lora_A.{name}.weight"]
            plain = base[f"{layer}.weight"]
            found[f"{layer}.weight"] = (plain.float() + scale * (trained[key].float() @ down.float())).to(plain.dtype)
    return found


def save_adapter(model: nn.Module, name: str, folder: Path) -> None:
    """Writes `pytorch_lora_weights.safetensors` with rank and alpha in its header, as `load_lora_weights` of diffusers reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = cast(Any, model).peft_config[name].to_dict()
    # Sets are written in the order of the process's hash seed; the same adapter must give the same bytes everywhere.
    settings = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    cast(Any, ErnieImagePipeline).save_lora_weights(
        save_directory=str(folder),
        transformer_lora_layers=adapter_weights(model, name),
        weight_name=WEIGHTS_FILE,
        transformer_lora_adapter_metadata=settings,
    )
    sort_header(folder / WEIGHTS_FILE)


def sort_header(path: Path) -> None:
    """Writes the header of a safetensors file again with sorted keys: the library's order differs from process to process."""
    content = path.read_bytes()
    end = HEADER_START + int.from_bytes(content[:HEADER_START], "little")
    header = json.dumps(json.loads(content[HEADER_START:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % HEADER_START)  # tensors stay aligned
    path.write_bytes(len(header).to_bytes(HEADER_START, "little") + header + content[end:])


def load_adapter(model: ErnieImageDiT, name: str, folder: Path) -> None:
    """Attaches a saved adapter under `name` and makes it active. Raises AdapterError when it is no adapter of this model."""
    try:
        state, metadata = cast(Any, ErnieImagePipeline).lora_state_dict(
            str(folder), weight_name=WEIGHTS_FILE, use_safetensors=True, local_files_only=True, return_lora_metadata=True
        )
    except (OSError, ValueError) as error:
        raise AdapterError(Problem("adapter", f"cannot be read: {error}", str(folder), "give a folder written by save_adapter")) from error
    settings = {key.removeprefix("transformer."): value for key, value in (metadata or {}).items()}
    weights = {key.removeprefix("transformer."): tensor for key, tensor in state.items()}
    if "r" not in settings or "lora_alpha" not in settings:
        raise AdapterError(Problem("adapter", "names no rank and alpha in its header", str(folder), "save it again with its metadata"))
    check_fit(model, weights, folder)
    attach(model, name, rank=int(settings["r"]), alpha=float(settings["lora_alpha"]))
    set_peft_model_state_dict(cast(Any, model), weights, adapter_name=name)


def check_fit(model: nn.Module, weights: dict[str, Tensor], folder: Path) -> None:
    """Raises AdapterError unless every weight belongs to a projection of this model, with its shape."""
    layers = dict(model.named_modules())
    fix = "use an expert of the same base"
    problems = []
    for key, tensor in weights.items():
        path, _, kind = key.rpartition(".lora_")
        layer = layers.get(path)
        target = getattr(layer, "base_layer", layer)
        if not isinstance(target, nn.Linear):
            problems.append(Problem(f"adapter.{key}", "belongs to no projection of this model", None, fix))
            continue
        expected, given = (target.in_features, tensor.shape[-1]) if kind.startswith("A") else (target.out_features, tensor.shape[0])
        if expected != given:
            problems.append(Problem(f"adapter.{key}", f"has another width than the model ({expected})", given, fix))
    if problems or not weights:
        raise AdapterError(problems[:10] or [Problem("adapter", "holds no weights", str(folder))])
