"""A bundle is a plain diffusers folder: diffusers' own pipeline draws the same pixels from it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import ErnieImagePipeline

from imagewright.errors import InputError
from imagewright.serving.bundle import empty_prompt, load_bundle
from imagewright.serving.engine import Engine, ImageRequest

PROMPT = "two green triangles"


@pytest.mark.parametrize(("size", "steps", "guidance"), [((32, 32), 4, 1.0), ((48, 24), 3, 4.0)])
def test_diffusers_draws_the_same_pixels(bundle_folder: Path, size: tuple[int, int], steps: int, guidance: float) -> None:
    pipeline = ErnieImagePipeline.from_pretrained(str(bundle_folder))
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        PROMPT,
        width=size[0],
        height=size[1],
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=torch.Generator().manual_seed(7),
        output_type="np",
        use_pe=False,
    ).images[0]
    bundle = load_bundle(bundle_folder)
    engine = Engine(bundle, max_queue=4, max_batch_tokens=1000)
    request = ImageRequest(bundle.text_encoder.encode([PROMPT])[0], empty_prompt(bundle), size, 7, steps, guidance)
    ours = engine.submit([request])[0].result(60)
    assert engine.drain(10)
    assert ours.shape == (size[1], size[0], 3)
    assert ours.std() > 1
    assert np.abs(ours.astype(float) - theirs * 255).max() <= 1.0


def test_the_bundle_carries_its_sampler_defaults(bundle_folder: Path) -> None:
    bundle = load_bundle(bundle_folder)
    assert (bundle.defaults.num_steps, bundle.defaults.shift, bundle.defaults.size_px, bundle.stride) == (4, 4.0, 32, 8)
    assert bundle.text_encoder.max_tokens == 32


@pytest.mark.parametrize("part", ["model_index.json", "scheduler/scheduler_config.json", "transformer/config.json", "vae/config.json"])
def test_a_bundle_with_a_missing_part_is_refused(bundle_folder: Path, tmp_path: Path, part: str) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(bundle_folder, copy)
    (copy / part).unlink()
    with pytest.raises(InputError):
        load_bundle(copy)


def test_a_cut_weight_file_is_refused(bundle_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(bundle_folder, copy)
    weights = copy / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be read"):
        load_bundle(copy)
