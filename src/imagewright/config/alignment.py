"""Section `alignment`: whether preference training helped, by a judge that had no part in ranking the pairs."""

from __future__ import annotations

from pydantic import Field

from imagewright.config.base import Section


class AlignmentConfig(Section):
    """The aligned model against the model it started from, on held-out prompts with the same noise."""

    num_prompts: int = Field(default=48, ge=2)
    """Held-out prompts, one image of each model; an interval of +-0.03 on the win rate needs about 1,000."""
    num_steps: int = Field(default=12, ge=1, le=1000)
    """Sampling steps."""
    guidance_scale: float = Field(default=4.0, ge=1.0)
    """Guidance of both models."""
    shift: float = Field(default=4.0, gt=0.0)
    """Static shift of the noise schedule."""
    resolution_px: int = Field(default=32, ge=16, le=4096)
    """Side of the images; a multiple of the latent stride."""
    batch_size: int = Field(default=64, ge=1)
    """Images in one pack."""
    judge_images: int = Field(default=8192, ge=32)
    """Training scenes the judging network learns from."""
    judge_steps: int = Field(default=250, ge=1)
    """Its optimizer steps of 128 images."""
    judge_held_out: int = Field(default=256, ge=8)
    """Held-out scenes it is examined on before its verdict counts."""
    min_judge_accuracy: float = Field(default=0.95, ge=0.0, le=1.0)
    """Share of held-out scenes whose own prompt it must find truer than another scene's; a worse judge shows nothing."""
    bootstrap_resamples: int = Field(default=4000, ge=100)
    """Resamples behind the interval."""
