"""Section `preferences`: pairs of the SFT model's own samples, the better one named, for preference training."""

from __future__ import annotations

from pydantic import Field

from imagewright.config.base import Section


class PreferencesConfig(Section):
    """Several samples of every prompt, ranked by what can be checked; the best against the worst."""

    num_prompts: int = Field(default=256, ge=1)
    """Different prompts of training scenes; evaluation's prompts are never used."""
    text_prompts: int = Field(default=0, ge=0)
    """Different prompts of training rows that quote visible text, beside those of scenes; ranked by what OCR reads. It must be able to read
    typeset text of `resolution_px` behind the autoencoder: `benchmarks/text_ceiling.py` says from which size on."""
    vote_prompts: int = Field(default=24, ge=0)
    """Prompts whose best and worst sample are also written as a project of the annotation page, two pictures each; 0 writes none."""
    samples_per_prompt: int = Field(default=4, ge=2, le=64)
    """Samples of each prompt, from different seeds; more of them widen the gap between best and worst."""
    resolution_px: int = Field(default=32, ge=8, le=4096)
    """Side of the samples; a multiple of the latent stride."""
    num_steps: int = Field(default=12, ge=1, le=1000)
    """Sampling steps."""
    guidance_scale: float = Field(default=4.0, ge=1.0)
    """Guidance of the samples, as in evaluation."""
    shift: float = Field(default=4.0, gt=0.0)
    """Static shift of the noise schedule."""
    batch_size: int = Field(default=128, ge=1)
    """Samples in one pack."""
    aes_weight: float = Field(default=0.0, ge=0.0, le=10.0)
    """Weight of the aesthetic score (0..1) beside the share of the prompt that is true (0..1). Above 0 it needs the input `aes`."""
    min_margin: float = Field(default=0.1, ge=0.0)
    """Best and worst nearer than this are a tie: no pair."""
    min_chosen_score: float = Field(default=0.5, ge=0.0)
    """A prompt whose best sample scores less gives no pair: there is nothing in it to prefer."""
    near_duplicate_distance: float = Field(default=0.05, ge=0.0, le=1.0)
    """Root mean squared latent difference, as a share of the latents' own size, up to which a pair counts as near-duplicate."""
    grid_pairs: int = Field(default=12, ge=1, le=64)
    """Pairs shown in the picture beside the data."""
