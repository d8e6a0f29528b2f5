"""Section `evaluation`: how models are sampled and scored."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from imagewright.config.base import Section

SuiteName = Literal["geneval_coco", "longtext", "oneig", "dpg", "aes", "domains", "human"]


class BenchmarkFile(Section):
    """A benchmark's own prompts, pinned so that a result names what was asked."""

    path: str = Field(min_length=1)
    """File on the machine that evaluates."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Digest of the file; another file is refused."""


class QuestionJudgeConfig(Section):
    """Who answers questions about images."""

    kind: Literal["scene", "transformers", "openai"] = "scene"
    """scene: the exact judge of composed scenes. transformers: a local image-text-to-text model. openai: an endpoint with vision."""
    model: str = ""
    """Path, hub id, or the endpoint's model name."""
    endpoint: str = Field(default="", pattern=r"^(https?://\S+)?$")
    """Base URL of the endpoint, such as http://host:8000/v1; its key is read from OPENAI_API_KEY."""
    timeout_seconds: float = Field(default=60.0, gt=0.0, le=600.0)
    """Longest wait for one answer of the endpoint; a late answer is a failed verdict."""

    @model_validator(mode="after")
    def fits_kind(self) -> Self:
        """Refuses what would be ignored, and what is missing."""
        if (self.kind == "openai") != bool(self.endpoint):
            raise ValueError("endpoint must be given with kind openai, and with no other")
        if (self.kind == "scene") == bool(self.model):
            raise ValueError("model must be given with kinds transformers and openai, and not with scene")
        return self


class HumanFormsConfig(Section):
    """Where people's pass/fail answers lie. An image's category in the project is the name of the model that painted it."""

    database: str = Field(min_length=1)
    """Database of the annotation page, such as sqlite:///votes.db."""
    project: str = Field(min_length=1)
    """A project of kind form."""


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
    suites: tuple[SuiteName, ...] = ()
    """Suites beside the composed scenes, each with judges of its own. aes needs an aesthetic model, given or champion; human a database."""
    suite_prompts: int = Field(default=8, ge=2)
    """Prompts of each task of a further suite, where it makes its own."""
    geneval_per_task: int = Field(default=0, ge=0)
    """Prompts of each task of geneval_coco, where it makes its own; 0 asks all 553."""
    detector_trial: BenchmarkFile | None = None
    """Labelled pictures the detector of geneval_coco is tried on: JSON lines with `image`, `class` and `colour`. Untried, it is refused."""
    benchmarks: dict[Literal["geneval_coco", "longtext", "oneig", "dpg"], BenchmarkFile] = Field(default_factory=dict)
    """Prompt files of benchmarks the user has; they replace the suite's own prompts, after a check against the training captions."""
    question_judge: QuestionJudgeConfig = QuestionJudgeConfig()
    """Who answers the questions of dpg and oneig."""
    domains: tuple[str, ...] = ()
    """Domains of the suite domains, by packaged name or path; only those of composed scenes can be judged."""
    human: HumanFormsConfig | None = None
    """Answers of people for the suite human."""
    enhanced_prompts_per_task: int = Field(default=0, ge=0)
    """Prompts of each task and split that the rows with enhancer are asked; 0 asks all. Expanding a prompt costs more than a picture."""
    enhanced_suite_prompts: int = Field(default=0, ge=0)
    """The same for each task of the further suites."""
    enhancer_max_tokens: int = Field(default=256, ge=8, le=8192)
    """Tokens an expanded prompt may have."""
    enhancer_batch_size: int = Field(default=16, ge=1, le=4096)
    """Prompts expanded at once."""

    @model_validator(mode="after")
    def suites_have_what_they_need(self) -> Self:
        """Refuses suites without their inputs, and inputs without their suite."""
        if len(set(self.suites)) != len(self.suites):
            raise ValueError("suites names one twice")
        if ("human" in self.suites) != (self.human is not None):
            raise ValueError("the suite human and the section human belong together")
        if ("domains" in self.suites) != bool(self.domains):
            raise ValueError("the suite domains and the list domains belong together")
        if len(set(self.domains)) != len(self.domains):
            raise ValueError("domains names one twice")
        if self.detector_trial is not None and "geneval_coco" not in self.suites:
            raise ValueError("detector_trial is given for the suite geneval_coco, which suites does not name")
        if unused := sorted(set(self.benchmarks) - set(self.suites)):
            raise ValueError(f"benchmarks names {', '.join(unused)}, which suites does not")
        return self
