"""Samples images of prompts from a model payload, through a cache keyed by everything that decides a pixel."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imagewright.diffusion.sampler import VelocityModel, sample
from imagewright.errors import InputError, Problem
from imagewright.models.diffusers_adapter import load_transformer
from imagewright.models.text_encoder import TextEncoder
from imagewright.models.vae import Autoencoder, check_packing, decode, digest, packed_channels, stride
from imagewright.models.vae_training import to_pixels
from imagewright.storage import Store

Pixels = NDArray[np.uint8]
Enhance = Callable[[str], str]
WEIGHT_FOLDERS = ("ema", "transformer")
"""The moving average is what is shipped; a model without one is taken as it is."""


@dataclass(frozen=True)
class SamplerSettings:
    """Everything about the sampler that decides a pixel."""

    num_steps: int
    guidance_scale: float
    shift: float
    resolution_px: int


class GenerationCache(Protocol):
    """Where finished images are found again."""

    def get(self, key: str) -> bytes | None:
        """PNG bytes under a key, or None."""

    def put(self, key: str, png: bytes) -> None:
        """Stores PNG bytes; the same key always gets the same image."""


class StoreCache:
    """Generations as named objects of the store: every evaluation of the same weights finds them."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def get(self, key: str) -> bytes | None:
        """PNG bytes under a key, or None."""
        found = self.store.get_named(f"generations/{key[:2]}/{key}.png")
        return found.data if found else None

    def put(self, key: str, png: bytes) -> None:
        """Stores PNG bytes."""
        self.store.put_named(f"generations/{key[:2]}/{key}.png", png)


@dataclass(frozen=True)
class Generator:
    """A model that paints prompts; identity names weights, autoencoder and text encoder."""

    model: VelocityModel
    vae: Autoencoder
    text_encoder: TextEncoder
    identity: str
    batch_size: int


def load_generator(payload: Path, weights_digest: str, vae: Autoencoder, text_encoder: TextEncoder, batch_size: int) -> Generator:
    """Loads a model payload folder (`ema/` before `transformer/`).

    Raises InputError when it holds neither, or its channels do not fit the autoencoder or its text width the text encoder.
    """
    folder = next((payload / name for name in WEIGHT_FOLDERS if (payload / name).is_dir()), None)
    if folder is None:
        raise InputError(Problem("model", f"payload must hold one of {', '.join(WEIGHT_FOLDERS)}", str(payload), "give a model payload"))
    model = load_transformer(folder).eval().requires_grad_(False)
    check_packing(vae, model.config.in_channels)
    if model.config.text_in_dim != text_encoder.dim:
        fix = "evaluate with the text encoder the model was trained with"
        raise InputError(
            Problem("model.text_in_dim", f"must be the text encoder's width {text_encoder.dim}", model.config.text_in_dim, fix)
        )
    identity = "/".join([weights_digest, folder.name, digest(vae), text_encoder.digest, str(text_encoder.layer)])
    return Generator(model, vae, text_encoder, identity, batch_size)


def cache_key(identity: str, prompt: str, seed: int, settings: SamplerSettings, enhancer: str) -> str:
    """SHA-256 over weights, prompt, seed, sampler and enhancer."""
    tree = {"weights": identity, "prompt": prompt, "seed": seed, "sampler": asdict(settings), "enhancer": enhancer}
    return hashlib.sha256(json.dumps(tree, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def generate(
    generator: Generator,
    requests: Sequence[tuple[str, int]],
    settings: SamplerSettings,
    cache: GenerationCache,
    *,
    enhance: Enhance | None = None,
    enhancer: str = "",
) -> tuple[list[Pixels], float]:
    """Images [H, W, 3] of (prompt, seed) requests, and the seconds each image cost that was not cached (0 when all were)."""
    images: list[Pixels | None] = []
    missing: list[int] = []
    keys = [cache_key(generator.identity, prompt, seed, settings, enhancer) for prompt, seed in requests]
    for index, key in enumerate(keys):
        found = read_png(cache.get(key), settings.resolution_px)
        images.append(found)
        if found is None:
            missing.append(index)
    started = time.perf_counter()
    for start in range(0, len(missing), generator.batch_size):
        chunk = missing[start : start + generator.batch_size]
        prompts = [enhance(requests[i][0]) if enhance else requests[i][0] for i in chunk]
        painted = paint(generator, prompts, [requests[i][1] for i in chunk], settings)
        for index, image in zip(chunk, painted, strict=True):
            images[index] = image
            cache.put(keys[index], write_png(image))
    seconds = (time.perf_counter() - started) / len(missing) if missing else 0.0
    return [image for image in images if image is not None], seconds


def paint(generator: Generator, prompts: Sequence[str], seeds: Sequence[int], settings: SamplerSettings) -> Pixels:
    """Samples one pack: images [B, H, W, 3] uint8."""
    import torch

    cells = settings.resolution_px // stride(generator.vae)
    latents = sample(
        generator.model,
        generator.text_encoder.encode(prompts),
        [(cells, cells)] * len(prompts),
        channels=packed_channels(generator.vae),
        seeds=seeds,
        num_steps=settings.num_steps,
        shift=settings.shift,
        guidance_scale=settings.guidance_scale,
        negative_embeds=generator.text_encoder.encode([""])[0],
    )
    pixels = to_pixels(decode(generator.vae, torch.stack(latents)))
    return np.ascontiguousarray(pixels.numpy().transpose(0, 2, 3, 1))


def write_png(image: Pixels) -> bytes:
    """PNG bytes of an image [H, W, 3]."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def read_png(png: bytes | None, side_px: int) -> Pixels | None:
    """Image [H, W, 3] of cached PNG bytes; None when there are none, or they are damaged or of another size (then it is painted again)."""
    if png is None:
        return None
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            return np.asarray(image.convert("RGB")) if image.size == (side_px, side_px) else None
    except (OSError, SyntaxError, ValueError):
        return None
