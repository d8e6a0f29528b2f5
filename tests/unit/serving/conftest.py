"""A tiny real bundle (two-layer DiT, small VAE, packaged text encoder) and a server on it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from imagewright.config.model import ModelConfig
from imagewright.config.serving import ServingConfig
from imagewright.config.text_encoder import TextEncoderConfig
from imagewright.config.vae import VaeConfig
from imagewright.models.diffusers_adapter import save_transformer
from imagewright.models.dit import ErnieImageDiT
from imagewright.models.vae import build_vae, save_vae, set_statistics
from imagewright.serving.bundle import export_bundle
from imagewright.serving.golden import write_golden

SERVING = ServingConfig(num_steps=4, default_size_px=32, max_size_px=96, max_queue=64, max_batch_tokens=4096, poll_seconds=0.05)


def write_bundle(folder: Path, seed: int) -> Path:
    """Draws every parameter non-zero: a fresh DiT outputs exactly 0 and would prove nothing."""
    torch.manual_seed(seed)
    vae = build_vae(VaeConfig(block_out_channels=(8, 8, 16), latent_channels=2, norm_num_groups=4))
    set_statistics(vae, [torch.rand(16, 3, 32, 32) * 2 - 1])
    save_vae(vae, folder / "parts" / "vae")
    shape = ModelConfig(
        hidden_size=32,
        num_layers=2,
        num_attention_heads=2,
        ffn_hidden_size=48,
        in_channels=8,
        out_channels=8,
        text_in_dim=384,
        rope_axes_dim=(4, 6, 6),
    )
    model = ErnieImageDiT(shape)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
    save_transformer(model, folder / "parts" / "transformer")
    export_bundle(folder / "parts" / "transformer", folder / "parts" / "vae", TextEncoderConfig(), SERVING, folder / "bundle")
    write_golden(folder / "bundle")
    return folder / "bundle"


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle"), 0)


@pytest.fixture(scope="session")
def other_bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle"), 1)
