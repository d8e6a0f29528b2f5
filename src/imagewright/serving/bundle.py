"""The bundle: a servable diffusers folder (`ErnieImagePipeline`) put together from a trained transformer, a VAE and a text encoder."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imagewright.config.serving import ServingConfig
from imagewright.config.text_encoder import TextEncoderConfig
from imagewright.errors import InputError, Problem
from imagewright.models.diffusers_adapter import load_transformer
from imagewright.models.dit import ErnieImageDiT
from imagewright.models.language_model import MODEL_FOLDER, TOKENIZER_FOLDER
from imagewright.models.text_encoder import TransformersTextEncoder, load_text_encoder
from imagewright.models.vae import Autoencoder, check_packing, load_vae, stride

SCHEDULER = "FlowMatchEulerDiscreteScheduler"
DEFAULTS_FILE = "imagewright.json"
PIPELINE_LAYER = -2
MAX_JSON_BYTES = 1 << 20


class BundleError(InputError):
    """A folder that cannot be served."""


@dataclass(frozen=True)
class SamplerDefaults:
    """What a request gets that names no sampler settings; written beside the model, so a bundle carries its own."""

    num_steps: int
    guidance_scale: float
    shift: float
    size_px: int


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle, ready to sample."""

    transformer: ErnieImageDiT
    vae: Autoencoder
    text_encoder: TransformersTextEncoder
    defaults: SamplerDefaults

    @property
    def stride(self) -> int:
        """Pixels per latent cell: sizes must be multiples of it."""
        return stride(self.vae)


def export_bundle(
    transformer: Path, vae: Path, text_encoder: TextEncoderConfig, serving: ServingConfig, output: Path, enhancer: Path | None = None
) -> None:
    """Writes a diffusers folder that `ErnieImagePipeline.from_pretrained` loads.

    transformer, vae: their diffusers folders. enhancer: payload of `train-enhancer`; without one the pipeline draws prompts as they are.
    The tokenizer's `model_max_length` carries the prompt cap, because the pipeline truncates by it. Raises BundleError when the VAE's
    channels are not the transformer's, prompts were encoded from another layer than -2, or the enhancer's payload is not whole.
    """
    if text_encoder.layer != PIPELINE_LAYER:
        rule = f"must be {PIPELINE_LAYER}: the diffusers pipeline reads that hidden state and no other"
        raise BundleError(Problem("text_encoder.layer", rule, text_encoder.layer, "encode and train with layer -2"))
    check_packing(load_vae(vae), load_transformer(transformer).config.in_channels)
    shutil.copytree(transformer, output / "transformer")
    shutil.copytree(vae, output / "vae")
    encoder = load_text_encoder(text_encoder)
    encoder.model.save_pretrained(str(output / "text_encoder"), safe_serialization=True)
    encoder.tokenizer.model_max_length = encoder.max_tokens
    encoder.tokenizer.save_pretrained(str(output / "tokenizer"))
    scheduler = {"_class_name": SCHEDULER, "num_train_timesteps": 1000, "shift": serving.shift, "use_dynamic_shifting": False}
    write_json(output / "scheduler" / "scheduler_config.json", {**scheduler, "_diffusers_version": version("diffusers")})
    tokenizer_class = type(encoder.tokenizer).__name__
    index = {
        "_class_name": "ErnieImagePipeline",
        "_diffusers_version": version("diffusers"),
        **enhancer_index(enhancer, output),
        "scheduler": ["diffusers", SCHEDULER],
        "text_encoder": ["transformers", encoder.class_name],
        "tokenizer": ["transformers", tokenizer_class],
        "transformer": ["diffusers", "ErnieImageTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKLFlux2"],
    }
    write_json(output / "model_index.json", index)
    defaults = {"num_steps": serving.num_steps, "guidance_scale": serving.guidance_scale, "size_px": serving.default_size_px}
    write_json(output / DEFAULTS_FILE, defaults)


def enhancer_index(enhancer: Path | None, output: Path) -> dict[str, list[str | None]]:
    """Copies `pe/` and `pe_tokenizer/` into the bundle; returns their entries of the index. Raises BundleError when one is missing.

    diffusers checks no constraint on what the model writes: the guarantees of `serving/enhancer.py` hold in our server only.
    """
    if enhancer is None:
        return {"pe": [None, None], "pe_tokenizer": [None, None]}
    classes = read_json(enhancer / MODEL_FOLDER / "config.json").get("architectures") or [None]
    tokenizer = read_json(enhancer / TOKENIZER_FOLDER / "tokenizer_config.json").get("tokenizer_class")
    if not classes[0] or not tokenizer:
        raise BundleError(Problem("enhancer", "names no model or tokenizer class", str(enhancer), "give a payload of train-enhancer"))
    for folder in (MODEL_FOLDER, TOKENIZER_FOLDER):
        shutil.copytree(enhancer / folder, output / folder)
    return {"pe": ["transformers", str(classes[0])], "pe_tokenizer": ["transformers", str(tokenizer)]}


def load_bundle(folder: Path, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> Bundle:
    """Loads a bundle, or any released ERNIE-Image folder, frozen and in eval mode. Raises BundleError for what is not one.

    dtype: of transformer, VAE and text encoder; None takes the transformer's stored one for all three.
    """
    index = read_json(folder / "model_index.json")
    if index.get("_class_name") != "ErnieImagePipeline":
        raise BundleError(Problem("model_index.json._class_name", "must be ErnieImagePipeline", index.get("_class_name"), "give a bundle"))
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    if scheduler.get("stochastic_sampling") or scheduler.get("use_dynamic_shifting"):
        raise BundleError(
            Problem("scheduler", "must be a deterministic Euler schedule with a static shift", None, "export the bundle again")
        )
    defaults = read_json(folder / DEFAULTS_FILE) if (folder / DEFAULTS_FILE).exists() else {}
    transformer = load_transformer(folder / "transformer", dtype=dtype, device=device).eval().requires_grad_(False)
    transformer.join_projections()
    vae = load_vae(folder / "vae", dtype=transformer.dtype).to(device)
    check_packing(vae, transformer.config.in_channels)
    tokenizer = read_json(folder / "tokenizer" / "tokenizer_config.json")
    encoder = load_text_encoder(
        TextEncoderConfig(
            kind="transformers",
            source=str(folder / "text_encoder"),
            layer=PIPELINE_LAYER,
            max_tokens=min(int(tokenizer.get("model_max_length", 2048)), 2048),
            dtype="bfloat16" if transformer.dtype == torch.bfloat16 else "float32",
        ),
        device,
        tokenizer_folder=folder / "tokenizer",
    )
    return Bundle(
        transformer,
        vae,
        encoder,
        SamplerDefaults(
            num_steps=int(defaults.get("num_steps", 50)),
            guidance_scale=float(defaults.get("guidance_scale", 4.0)),
            shift=float(scheduler.get("shift", 4.0)),
            size_px=int(defaults.get("size_px", 1024)),
        ),
    )


def empty_prompt(bundle: Bundle) -> Tensor:
    """Embedding of the empty negative prompt [T, D]."""
    return bundle.text_encoder.encode([""])[0]


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes readable JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Reads one bounded JSON object. Raises BundleError when it is missing or none."""
    try:
        with path.open("rb") as file:
            loaded = json.loads(file.read(MAX_JSON_BYTES))
    except (OSError, ValueError) as error:
        raise BundleError(Problem(path.name, f"cannot be read: {error}", str(path.parent), "give a whole diffusers folder")) from error
    if not isinstance(loaded, dict):
        raise BundleError(Problem(path.name, "must be a JSON object", str(path.parent)))
    return loaded
