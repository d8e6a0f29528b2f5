"""A bundle is a plain diffusers folder: diffusers' own pipeline draws the same pixels from it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import ErnieImagePipeline

from imagewright.config.enhancer import EnhancerConfig
from imagewright.config.serving import ServingConfig
from imagewright.config.text_encoder import TextEncoderConfig
from imagewright.errors import InputError
from imagewright.models.language_model import encode_exchange, load_language_model, save_language_model, user_message
from imagewright.serving.bundle import BundleError, empty_prompt, export_bundle, load_bundle
from imagewright.serving.denoising import ImageRequest
from imagewright.serving.engine import Engine
from imagewright.serving.golden import psnr_db

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


def test_in_bfloat16_diffusers_draws_nearly_the_same_pixels(bundle_folder: Path) -> None:
    pipeline = ErnieImagePipeline.from_pretrained(str(bundle_folder), torch_dtype=torch.bfloat16)
    pipeline.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 4, "guidance_scale": 1.0, "output_type": "pil", "use_pe": False}
    theirs = pipeline(PROMPT, width=32, height=32, generator=torch.Generator().manual_seed(7), **options).images[0]
    bundle = load_bundle(bundle_folder, dtype=torch.bfloat16)
    assert {bundle.transformer.dtype, bundle.vae.dtype, bundle.text_encoder.model.dtype} == {torch.bfloat16}
    engine = Engine(bundle, max_queue=4, max_batch_tokens=1000)
    ours = engine.submit([ImageRequest(bundle.text_encoder.encode([PROMPT])[0], None, (32, 32), 7, 4, 1.0)])[0].result(60)
    assert engine.drain(10)
    assert psnr_db(ours, np.asarray(theirs)) >= 35.0


def test_diffusers_runs_the_exported_enhancer(bundle_folder: Path, tmp_path: Path) -> None:
    language_model = load_language_model(EnhancerConfig(max_new_tokens=12))
    save_language_model(language_model, tmp_path / "enhancer")
    parts = bundle_folder.parent / "parts"
    export_bundle(parts / "transformer", parts / "vae", TextEncoderConfig(), ServingConfig(), tmp_path / "bundle", tmp_path / "enhancer")
    pipeline = ErnieImagePipeline.from_pretrained(str(tmp_path / "bundle"))
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline(PROMPT, width=32, height=32, num_inference_steps=2, guidance_scale=1.0, use_pe=True)
    assert drawn.images[0].size == (32, 32)
    assert len(drawn.revised_prompts) == 1
    seen: list[list[int]] = []
    added: list[int] = []
    generate = pipeline.pe.generate

    def watched(**inputs: torch.Tensor) -> torch.Tensor:
        output = generate(**inputs)
        seen.append(inputs["input_ids"][0].tolist())
        added.append(output.shape[1] - inputs["input_ids"].shape[1])
        return output

    pipeline.pe.generate = watched
    pipeline._enhance_prompt_with_pe(PROMPT, torch.device("cpu"), width=32, height=48)
    ids, length = encode_exchange(language_model.tokenizer, user_message(PROMPT, 32, 48), "x")
    assert seen == [ids[:length]]
    assert 0 < added[0] <= 12, "diffusers takes the tokenizer's bound for the output's"


def test_an_enhancer_payload_that_is_not_whole_is_refused(bundle_folder: Path, tmp_path: Path) -> None:
    parts = bundle_folder.parent / "parts"
    with pytest.raises(BundleError):
        export_bundle(parts / "transformer", parts / "vae", TextEncoderConfig(), ServingConfig(), tmp_path / "bundle", tmp_path / "none")


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
