"""Section `drift`: what distillation cost, by domain and skill."""

from __future__ import annotations

from pydantic import Field

from imagewright.config.base import Section


class DriftConfig(Section):
    """The capability-drift report: teacher, undistilled, folded and distilled models on the same prompts and noise."""

    num_prompts: int = Field(default=48, ge=6)
    """Held-out prompts, one image each, spread evenly over the skills; non-inferiority within 5% needs about 1,000."""
    resolution_px: int = Field(default=32, ge=8, le=4096)
    """Side of the images; a multiple of the latent stride."""
    teacher_steps: int = Field(default=50, ge=1, le=1000)
    """Guided steps of the teacher, two passes each (50 are the 100 NFE of the released base model)."""
    guidance_scale: float = Field(default=4.0, ge=1.0)
    """Guidance of the teacher."""
    student_steps: int = Field(default=8, ge=2, le=64)
    """Steps the student was made for; every model is also shown at half of them."""
    shift: float = Field(default=4.0, gt=0.0)
    """Static shift of every schedule."""
    batch_size: int = Field(default=64, ge=1)
    """Images in one pack."""
    max_loss: float = Field(default=0.05, gt=0.0, lt=1.0)
    """Share of the teacher's accuracy that the student may lose: non-inferior when the paired interval excludes a greater loss."""
    bootstrap_resamples: int = Field(default=2000, ge=100)
    """Resamples behind every interval."""
    grid_prompts: int = Field(default=8, ge=1, le=64)
    """Rows of the side-by-side pictures."""
