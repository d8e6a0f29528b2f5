"""Section `evaluation`: how models are sampled and scored."""

from __future__ import annotations

from pydantic import Field

from imagewright.config.base import Section


class EvaluationConfig(Section):
    """Suites over composed scenes, the same prompts and seeds for every model."""

    resolution_px: int = Field(default=32, ge=8, le=4096)
    """Side of the generated images; a multiple of the latent stride."""
    prompts_per_task: int = Field(default=16, ge=1)
    """Prompts of each task and split (seen, compositional)."""
    images_per_prompt: int = Field(default=2, ge=1, le=64)
    """Images of each prompt; intervals bootstrap prompts, never images."""
    num_steps: int = Field(default=20, ge=1, le=1000)
    """Sampling steps of every model but turbo (50 in the release)."""
    guidance_scale: float = Field(default=4.0, ge=1)
    """Guidance of every model but turbo."""
    turbo_steps: int = Field(default=8, ge=1, le=1000)
    """Sampling steps of turbo."""
    turbo_guidance_scale: float = Field(default=1.0, ge=1)
    """Guidance of turbo; it was distilled with guidance inside."""
    shift: float = Field(default=4.0, gt=0)
    """Static shift of the noise schedule."""
    batch_size: int = Field(default=64, ge=1)
    """Images in one pack."""
    calibration_images: int = Field(default=300, ge=20)
    """Ground-truth scenes behind the judge's ceiling and floors."""
    bootstrap_resamples: int = Field(default=2000, ge=100)
    """Resamples behind every interval."""
    grid_prompts: int = Field(default=12, ge=1, le=64)
    """Rows of the fixed-seed grid through the stages."""
    distribution_images: int = Field(default=0, ge=0)
    """Images on each side of the Frechet distance; 0 leaves it out."""
