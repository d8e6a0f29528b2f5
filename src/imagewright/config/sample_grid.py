"""Pictures that training draws of itself; part of section `training`."""

from __future__ import annotations

from pydantic import Field

from imagewright.config.base import Section


class SampleGridConfig(Section):
    """Held-out captions painted with the same noise again and again, so that progress can be seen. Needs the autoencoder as an input."""

    every_steps: int = Field(default=500, ge=0)
    """Steps between pictures; the last step always draws one."""
    num_prompts: int = Field(default=8, ge=0, le=64)
    """Held-out samples painted beside their own pictures, over as many categories as there are; 0 draws nothing."""
    num_steps: int = Field(default=20, ge=1, le=200)
    """Sampling steps: few, since pictures are compared with earlier ones, not judged."""
    guidance_scale: float = Field(default=4.0, ge=1.0, le=30.0)
    """Guidance against the encoded empty prompt (the released pipelines use 4)."""
    shift: float = Field(default=4.0, gt=0.0, le=100.0)
    """Static shift of the noise levels (4 in the released scheduler)."""
