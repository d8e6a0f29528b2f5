"""Section `vae`: the autoencoder between pixels and latents, trained here or taken ready-made."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from imagewright.config.base import Section


class VaeConfig(Section):
    """A small AutoencoderKLFlux2 trained on the corpus, or a released one by path or hub id."""

    source: str = ""
    """Folder or hub id of a released AutoencoderKLFlux2 to use as it is; empty trains one."""
    resolution_px: int = Field(default=32, ge=8, le=1024)
    """Side of the square training images."""
    block_out_channels: tuple[int, ...] = Field(default=(24, 48, 64), min_length=2, max_length=8)
    """Channels of each level; the total stride is 2 ** number of levels (the packing adds one halving)."""
    layers_per_block: int = Field(default=1, ge=1, le=8)
    """Residual blocks of each level."""
    latent_channels: int = Field(default=8, ge=1, le=64)
    """Channels before the 2x2 packing; the transformer sees four times as many."""
    norm_num_groups: int = Field(default=8, ge=1)
    """Groups of every group normalisation; divides every entry of block_out_channels."""
    mid_block_attention: bool = False
    """Attention at the lowest resolution, as the released VAE has it."""
    steps: int = Field(default=1200, ge=1)
    """Optimizer steps."""
    max_images: int = Field(default=16384, ge=1)
    """Training images held in memory, drawn at random from the corpus."""
    batch_size: int = Field(default=32, ge=1)
    """Images in one step."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """Peak of the cosine schedule."""
    warmup_steps: int = Field(default=50, ge=0)
    """Steps of linear warm-up."""
    l1_weight: float = Field(default=1.0, ge=0)
    """Weight of the mean absolute error; keeps edges sharp."""
    mse_weight: float = Field(default=1.0, ge=0)
    """Weight of the mean squared error."""
    kl_weight: float = Field(default=1e-6, ge=0)
    """Weight of the KL divergence to a unit Gaussian, per latent value."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradient norms above this are scaled down."""
    statistics_images: int = Field(default=4096, ge=16)
    """Encodings behind the stored BatchNorm statistics; below 4,096 the metrics say that they are rough."""
    judged_images: int = Field(default=256, ge=1)
    """Held-out scenes that are encoded, decoded and judged."""
    min_judged_accuracy: float = Field(default=0.0, ge=0, le=1)
    """The job fails when fewer of the judged scenes survive encode-decode."""
    checkpoint_every_steps: int = Field(default=200, ge=1)
    """Steps between resumable checkpoints."""

    @property
    def stride(self) -> int:
        """Pixels per packed latent cell, in each direction."""
        return int(2 ** len(self.block_out_channels))

    @property
    def packed_channels(self) -> int:
        """Channels the transformer sees."""
        return 4 * self.latent_channels

    @model_validator(mode="after")
    def sizes_fit(self) -> Self:
        """Refuses sizes that cannot be built."""
        bad = [channels for channels in self.block_out_channels if channels % self.norm_num_groups]
        if bad:
            raise ValueError(f"norm_num_groups={self.norm_num_groups} must divide every entry of block_out_channels, not {bad}")
        if self.resolution_px % self.stride:
            raise ValueError(f"resolution_px={self.resolution_px} must be a multiple of the stride {self.stride} (2 ** levels)")
        if self.l1_weight + self.mse_weight == 0:
            raise ValueError("l1_weight and mse_weight must not both be 0")
        return self
