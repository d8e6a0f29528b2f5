"""The golden image: drawn at export and again at loading, so a server is ready only with the model that was shipped."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PILImage

from imagewright.diffusion.guidance import needs_guidance
from imagewright.diffusion.sampler import sample
from imagewright.errors import Problem
from imagewright.models.vae import decode
from imagewright.serving.bundle import Bundle, BundleError, empty_prompt, load_bundle
from imagewright.serving.decoding import Image, to_bytes
from imagewright.serving.denoising import ImageRequest

GOLDEN_PROMPT = "a red circle"
GOLDEN_FILE = "golden.png"
# Chosen, not measured: below the 35 dB that bf16 is held to against fp32, so that number formats and other machines pass.
MIN_PSNR_DB = 25.0


def golden_request(bundle: Bundle) -> ImageRequest:
    """The one image drawn when a version is loaded: same prompt, seed and settings every time."""
    side = bundle.defaults.size_px
    return ImageRequest(
        prompt_embeds=bundle.text_encoder.encode([GOLDEN_PROMPT])[0],
        negative_embeds=empty_prompt(bundle),
        size_px=(side, side),
        seed=0,
        num_steps=bundle.defaults.num_steps,
        guidance_scale=bundle.defaults.guidance_scale,
    )


def write_golden(folder: Path) -> None:
    """Draws a bundle's golden image with the plain sampler and puts it beside `model_index.json`."""
    bundle = load_bundle(folder)
    request = golden_request(bundle)
    side = bundle.defaults.size_px // bundle.stride
    latents = sample(
        bundle.transformer,
        [request.prompt_embeds],
        [(side, side)],
        channels=bundle.transformer.config.in_channels,
        seeds=[request.seed],
        num_steps=request.num_steps,
        shift=bundle.defaults.shift,
        guidance_scale=request.guidance_scale,
        negative_embeds=request.negative_embeds if needs_guidance(request.guidance_scale) else None,
    )
    image = to_bytes(decode(bundle.vae, torch.stack(latents).to(bundle.vae.dtype)))[0]
    PILImage.fromarray(image).save(folder / GOLDEN_FILE, format="PNG")


def check_golden(folder: Path, image: Image) -> None:
    """Raises BundleError for a flat image, which is what NaN latents decode to, and for one unlike the bundle's own golden image."""
    if image.min() == image.max():
        raise BundleError(Problem("golden image", "is one flat colour: the model is broken", str(folder), "export the bundle again"))
    path = folder / GOLDEN_FILE
    if not path.exists():
        return
    with PILImage.open(path) as opened:
        expected = np.asarray(opened.convert("RGB"))
    found = psnr_db(image, expected) if expected.shape == image.shape else 0.0
    if found < MIN_PSNR_DB:
        rule = f"must be within {MIN_PSNR_DB:g} dB of the one drawn at export"
        raise BundleError(Problem("golden image", rule, f"{found:.1f} dB", "the payload is not what was exported: promote another version"))


def psnr_db(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """10 log10(255^2 / mean squared difference) of two images [H, W, 3]; infinite when they are equal."""
    error = float(np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(255.0**2 / error))


def image_sha256(image: Image) -> str:
    """SHA-256 of an image's pixels."""
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()
