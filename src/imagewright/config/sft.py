"""Section `sft`: top-down domains, supervised fine-tuning and the domain experts that later teach the distillation."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from imagewright.config.base import Section
from imagewright.config.pretrain import PretrainStage

LORA_ALPHA = 16.0


class ExpertConfig(Section):
    """LoRA adapters, one per domain, on the shared frozen SFT weights."""

    rank: int = Field(default=16, ge=1, le=1024)
    """Rank of the adapters (DiffSynth-Studio trains this model with 32)."""
    alpha: float = Field(default=16.0, gt=0.0)
    """Scale is alpha / rank."""
    stage: PretrainStage = PretrainStage(steps=50, learning_rate=1e-3)
    """Steps and learning rate of each expert; adapters take about ten times the rate of full weights."""


class RewriterConfig(Section):
    """What turns a caption into prompts as people write them."""

    kind: Literal["rules", "openai", "transformers"] = "rules"
    """`rules`: tested templates, no model needed. `openai`: a language model behind any OpenAI-compatible endpoint. `transformers`: a chat
    model on this machine."""
    endpoint: str = Field(default="", pattern=r"^(https?://\S+)?$")
    """Base URL up to and including /v1; the key is read from OPENAI_API_KEY."""
    model: str = ""
    """Name of the model at the endpoint; for transformers a folder, a hub id, a GGUF file, or smollm2, the packaged one."""
    temperature: float = Field(default=0.8, ge=0.0, le=2.0)
    """Sampling temperature; several users do not write alike."""
    max_tokens: int = Field(default=512, ge=16, le=8192)
    """Longest answer; one that is cut there is rejected."""
    timeout_seconds: float = Field(default=30.0, gt=0.0)
    """Seconds without a byte from the endpoint before a request counts as lost."""
    max_failures: int = Field(default=8, ge=1)
    """Requests without an answer in a row after which the job gives up."""

    @model_validator(mode="after")
    def endpoint_fits_kind(self) -> Self:
        """Refuses an endpoint that is missing or would be ignored."""
        if self.kind == "openai" and not (self.endpoint and self.model):
            raise ValueError("kind openai needs endpoint and model")
        if self.kind == "transformers" and (self.endpoint or not self.model):
            raise ValueError("kind transformers needs model, and takes no endpoint")
        if self.kind == "rules" and (self.endpoint or self.model):
            raise ValueError("endpoint and model have no effect with kind rules; set kind: openai")
        return self


class SftVariant(Section):
    """An earlier fine-tuning, and its share of the merged weights."""

    payload: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Digest of its payload: the source that MLflow shows of its version."""
    weight: float = Field(gt=0.0, lt=1.0)
    """Its share; what the variants leave is this fine-tuning's."""


class SftConfig(Section):
    """Supervised fine-tuning on high-demand domains."""

    domains: tuple[str, ...] = Field(default=("scenes_flat", "scenes_outlined", "scenes_dark", "scenes_counting"), min_length=1)
    """Packaged domain files, or paths of files ending in .yaml."""
    languages: tuple[str, ...] = Field(default=("en",), min_length=1)
    """Languages of the diversified prompts (those the text encoder reads)."""
    rewriter: RewriterConfig = RewriterConfig()
    """Who writes them."""
    stage: PretrainStage = PretrainStage(steps=50, learning_rate=1e-5)
    """Steps, learning rate and batches (Qwen-Image-2.0 fine-tunes at 1e-5)."""
    concept_balance: float = Field(default=0.5, ge=0.0, le=1.0)
    """How much rare concepts of a domain are favoured: 0 draws every sample alike, 1 every category of the curated data."""
    lora_rank: int = Field(default=0, ge=0, le=1024)
    """0 fine-tunes every weight; else LoRA of this rank on the attention, fused into the weights at the end."""
    lora_alpha: float = Field(default=LORA_ALPHA, gt=0.0)
    """Scale of that LoRA is alpha / rank."""
    merge: tuple[SftVariant, ...] = ()
    """Earlier fine-tunings of the same base that are averaged into this one before the experts are trained."""
    experts: ExpertConfig = ExpertConfig()
    """The domain experts."""
    validation_samples: int = Field(default=64, ge=0, le=4096)
    """Samples held out of fine-tuning, over all domains."""
    min_expert_gain: float = Field(default=0.0)
    """An expert teaches its domain only when the lower bound of its gain over the SFT model is above this."""

    @model_validator(mode="after")
    def domains_differ(self) -> Self:
        """Refuses a domain named twice."""
        twice = sorted({name for name in self.domains if self.domains.count(name) > 1})
        if twice:
            raise ValueError(f"domains names {', '.join(twice)} more than once")
        if self.lora_alpha != LORA_ALPHA and not self.lora_rank:
            raise ValueError("lora_alpha has no effect without lora_rank")
        if sum(variant.weight for variant in self.merge) >= 1.0:
            raise ValueError("merge must leave a share to this fine-tuning: its weights sum to 1 or more")
        return self
