"""Section `enhancer`: the language model that expands short prompts into captions, its training pairs and its bounds."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from imagewright.config.base import Section

Strategy = Literal["original", "drop_attributes", "keywords", "one_clause", "colloquial", "other_language"]


class PairsConfig(Section):
    """Reverse pairs: long captions degraded into prompts as people type them."""

    max_pairs: int = Field(default=4096, ge=1, le=10_000_000)
    """Pairs made at most; samples are drawn evenly from the curated manifest."""
    strategies: tuple[Strategy, ...] = Field(
        default=("original", "drop_attributes", "keywords", "one_clause", "colloquial", "other_language"), min_length=1
    )
    """Ways to degrade a caption; one is drawn for every pair. `original` takes the sample's own short or user caption."""
    language: str = Field(default="en", pattern=r"^[a-z]{2,3}$")
    """Language of the captions that the model learns to write: the one the image model reads."""
    sizes_px: tuple[tuple[int, int], ...] = Field(default=((1024, 1024), (1264, 848), (848, 1264)), min_length=1)
    """(width, height) written into the messages, one drawn for every pair."""


class EnhancerConfig(Section):
    """Supervised fine-tuning of a causal language model on reverse pairs."""

    kind: Literal["tiny", "smollm2", "transformers"] = "tiny"
    """tiny: two random layers on bytes, for tests. smollm2: the packaged SmolLM2-135M-Instruct. transformers: `source`."""
    source: str = ""
    """Folder, GGUF file or hub id of a causal language model whose tokenizer has a chat template; only with kind transformers."""
    system_prompt: str = Field(default="Expand the prompt into one detailed image caption.", min_length=1, max_length=4000)
    """What the template tells the model; short, because every prompt pays for it."""
    pairs: PairsConfig = PairsConfig()
    """The training pairs."""
    adapt: Literal["lora", "full"] = "lora"
    """lora: adapters on the projections of the last `lora_layers` layers, merged at the end. full: every weight."""
    lora_rank: int = Field(default=16, ge=1, le=1024)
    """Rank of the adapters; their scale is 2."""
    lora_layers: int = Field(default=0, ge=0, le=1024)
    """Layers with adapters, counted from the output; 0 takes all. Backpropagation stops below the first of them."""
    steps: int = Field(default=8, ge=1, le=10_000_000)
    """Optimizer steps."""
    batch_size: int = Field(default=8, ge=1, le=4096)
    """Pairs per step."""
    learning_rate: float = Field(default=1e-3, gt=0.0, le=1.0)
    """Peak rate: 1e-3 suits adapters, about 1e-5 full weights."""
    warmup_steps: int = Field(default=2, ge=0)
    """Linear warm-up; a cosine follows."""
    max_prompt_tokens: int = Field(default=512, ge=16, le=65_536)
    """A pair whose rendered prompt is longer is left out."""
    max_new_tokens: int = Field(default=256, ge=8, le=8192)
    """Bound of the output; also `model_max_length` of the exported tokenizer, which diffusers takes for the bound."""
    validation_prompts: int = Field(default=16, ge=1, le=100_000)
    """Held-out short prompts that the untrained and the trained model expand."""
    generation_batch_size: int = Field(default=16, ge=1, le=4096)
    """Prompts expanded at once while measuring."""

    @model_validator(mode="after")
    def source_fits_kind(self) -> Self:
        """Refuses a source that would be ignored, a missing one, and a warm-up longer than the run."""
        if (self.kind == "transformers") != bool(self.source):
            raise ValueError("source must name a folder, a GGUF file or a hub id with kind transformers, and be empty with any other kind")
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps is {self.warmup_steps}, but there are only {self.steps} steps")
        return self
