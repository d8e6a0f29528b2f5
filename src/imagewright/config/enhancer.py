"""Section `enhancer`: the language model that expands short prompts into captions, its training pairs and its bounds."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from imagewright.config.base import Section

Strategy = Literal["original", "drop_attributes", "keywords", "one_clause", "colloquial", "other_language"]


class PairsConfig(Section):
    """Reverse pairs: long captions degraded into prompts as people type them."""

    max_pairs: int = Field(default=4096, ge=1, le=10_000_000)
    """Pairs made at most."""
    source_balance: float = Field(default=0.5, ge=0.0, le=1.0)
    """0 draws samples of the curated manifest evenly, 1 gives every source the same share; between, small sources gain. Text on
    posters is rare in a pool of scenes, and a model that never saw a quoted word loses it."""
    additions: float = Field(default=0.25, ge=0.0, le=1.0)
    """Share of pairs whose prompt and caption both end with a remark the picture says nothing of: an exclusion, a count, written
    words, a foreign word. It teaches the model to carry over what it does not know."""
    strategies: tuple[Strategy, ...] = Field(
        default=("original", "drop_attributes", "keywords", "one_clause", "colloquial", "other_language"), min_length=1
    )
    """Ways to degrade a caption; one is drawn for every pair. `original` takes the sample's own short or user caption."""
    language: str = Field(default="en", pattern=r"^[a-z]{2,3}$")
    """Language of the captions that the model learns to write: the one the image model reads."""
    sizes_px: tuple[tuple[int, int], ...] = Field(default=((1024, 1024), (1264, 848), (848, 1264)), min_length=1)
    """(width, height) written into the messages, one drawn for every pair."""


class RewardWeights(Section):
    """Weights of the reward's parts; a part that is not measured does not count."""

    text: float = Field(default=1.0, ge=0.0)
    """Quoted text kept."""
    attributes: float = Field(default=1.0, ge=0.0)
    """Numbers, colours, objects, places and negations kept."""
    length: float = Field(default=0.25, gt=0.0)
    """Nearness to the wanted length."""
    judged: float = Field(default=1.0, ge=0.0)
    """Share of the prompt's facts in the generator's picture; needs the inputs `model` and `vae`."""
    aes: float = Field(default=0.25, ge=0.0)
    """Aesthetic score of that picture; needs the input `aes` too."""


class PolicyConfig(Section):
    """The optional step after fine-tuning: group-relative policy optimisation on the model's own samples."""

    steps: int = Field(default=0, ge=0, le=10_000_000)
    """Updates; 0 leaves the fine-tuned model as it is."""
    prompts_per_step: int = Field(default=4, ge=1, le=4096)
    """Prompts of one update."""
    group_size: int = Field(default=4, ge=2, le=256)
    """Samples of a prompt, which are compared with one another."""
    max_prompts: int = Field(default=512, ge=1, le=1_000_000)
    """Short prompts of training scenes that are drawn from."""
    learning_rate: float = Field(default=1e-5, gt=0.0, le=1.0)
    """Constant rate; about a hundredth of fine-tuning's, because rewards are noisy."""
    temperature: float = Field(default=1.0, gt=0.0, le=2.0)
    """Of sampling; 1 samples what the loss is taken of."""
    max_new_tokens: int = Field(default=64, ge=8, le=8192)
    """Tokens of a sample."""
    wanted_words: int = Field(default=16, ge=1, le=2048)
    """Length that gets the whole length reward: about that of the captions the image model was trained on."""
    clip: float = Field(default=0.2, gt=0.0, lt=1.0)
    """Range of the probability ratio (DeepSeekMath, 2402.03300)."""
    kl_weight: float = Field(default=0.04, ge=0.0, le=10.0)
    """Pull towards the fine-tuned model (0.04 in DeepSeekMath)."""
    sampler_steps: int = Field(default=8, ge=1, le=200)
    """Sampling steps of the judged pictures."""
    measured_prompts: int = Field(default=8, ge=0, le=10_000)
    """Prompts of every task and split of the held-out scenes on which the reward before and after the step is compared; 0 compares none."""
    weights: RewardWeights = RewardWeights()
    """What counts how much."""


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

    policy: PolicyConfig = PolicyConfig()
    """Learning from rewards after fine-tuning."""

    @model_validator(mode="after")
    def source_fits_kind(self) -> Self:
        """Refuses a source that would be ignored, a missing one, and a warm-up longer than the run."""
        if (self.kind == "transformers") != bool(self.source):
            raise ValueError("source must name a folder, a GGUF file or a hub id with kind transformers, and be empty with any other kind")
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps is {self.warmup_steps}, but there are only {self.steps} steps")
        return self
