"""Section `distill`: the few-step student - folding, distribution matching, the committee of teachers and its health alarms."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from imagewright.config.base import Section

Objective = Literal["CA", "DM"]


class RoutingRule(Section):
    """Who teaches a prompt domain in a band of noise levels for an objective. The first rule that matches and names a teacher wins."""

    domain: str = Field(default="*", min_length=1)
    """Prompt domain the rule is for; `*` is any."""
    low: float = Field(default=0.0, ge=0.0, le=1.0)
    """Lower end of the noise levels (included)."""
    high: float = Field(default=1.0, ge=0.0, le=1.0)
    """Upper end of the noise levels (excluded, except 1)."""
    objective: Literal["CA", "DM", "both"] = "both"
    """`CA` guidance augmentation, `DM` distribution matching: the two may ask different teachers for one sample."""
    expert: str = Field(default="own", min_length=1)
    """Name of an expert; `own` is the expert of the prompt's domain, `base` the model that the experts grew from."""

    @model_validator(mode="after")
    def check_band(self) -> Self:
        """Refuses an empty band."""
        if self.low >= self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        return self


class RoutingConfig(Section):
    """How the committee weighs its experts."""

    kind: Literal["rules", "soft", "learned"] = "rules"
    """`rules`: one teacher a sample, by the table. `soft`: softmax over how near the prompt is to each expert's domain. `learned`: a small
    network fitted to the experts' denoising errors."""
    rules: tuple[RoutingRule, ...] = Field(default=(RoutingRule(),), min_length=1)
    """The table; by default every domain's own expert teaches it."""
    temperature: float = Field(default=0.1, gt=0.0)
    """Softmax temperature of the soft router; small is nearly hard."""
    gate_steps: int = Field(default=200, ge=1)
    """Optimizer steps of the learned gate."""


class FoldingConfig(Section):
    """Guidance folding: the student learns the guided teacher's velocity on its own trajectory, so that it needs no guidance."""

    steps: int = Field(default=50, ge=0)
    """Optimizer steps; 0 leaves folding out."""
    learning_rate: float = Field(default=1e-4, gt=0.0)
    """Rate of the student while folding (a regression: it bears more than distribution matching)."""
    states_per_rollout: int = Field(default=2, ge=1, le=64)
    """States of each trajectory that are trained on."""


class MatchingConfig(Section):
    """Distribution matching: one rollout a round, some fake-score updates, one student update."""

    rounds: int = Field(default=50, ge=0)
    """Student updates; 0 leaves matching out."""
    critic_updates_per_student: int = Field(default=5, ge=1, le=100)
    """Fake-score updates before each student update (DMD2: 5)."""
    student_learning_rate: float = Field(default=1e-5, gt=0.0)
    """Rate of the student; 1e-4 collapses."""
    critic_learning_rate: float = Field(default=1e-4, gt=0.0)
    """Rate of the fake score."""
    target: Literal["samples", "predictions"] = "samples"
    """What is matched to the teacher's distribution: `samples`, the ends of the trajectories; `predictions`, clean predictions of
    random steps, as in DMD2. On points of the plane the second drove a folded student away from its teacher
    (benchmarks/distillation.py)."""
    rollout_steps: tuple[int, ...] = ()
    """Steps of the rollouts, in turn from round to round; empty takes num_student_steps. Half of them as a second number trains the student
    for half the evaluations too: every second noise level of a schedule is the schedule of half the steps."""
    renoising: Literal["shared", "decoupled"] = "decoupled"
    """`decoupled`: guidance augmentation has noise levels below the student's step and its own normaliser (Decoupled DMD). `shared`: it
    takes those of distribution matching, which gives the coupled guided gradient of DMD."""
    fake: Literal["full", "lora"] = "full"
    """The fake score: a whole network that starts as the folded student, whose samples it describes, or an adapter on the teachers' frozen
    base (no second copy of the weights)."""
    fake_rank: int = Field(default=32, ge=1, le=1024)
    """Rank of the adapter (32 in DMDR)."""
    fake_alpha: float = Field(default=32.0, gt=0.0)
    """Scale of the adapter is alpha / rank."""
    guidance_jitter: float = Field(default=0.0, ge=0.0)
    """Half-width of a uniform jitter of guidance_scale per update (0.5 in DMDR)."""
    ca_weight: float = Field(default=1.0, ge=0.0)
    """Weight of guidance augmentation."""
    ca_low: float = Field(default=0.02, ge=0.0, lt=1.0)
    """Lowest renoise level of guidance augmentation; the highest is the student step's own level (Decoupled DMD, 2511.22677)."""
    dm_weight: float = Field(default=1.0, ge=0.0)
    """Weight of distribution matching."""
    dm_low: float = Field(default=0.02, ge=0.0, lt=1.0)
    """Lowest renoise level of distribution matching and of the fake score."""
    dm_high: float = Field(default=0.98, gt=0.0, le=1.0)
    """Highest renoise level of distribution matching and of the fake score."""
    renoise_start: tuple[float, float] = (4.0, 1.5)
    """Beta distribution of the DM renoise level at first: noisy levels, where layouts are decided (DMDR)."""
    renoise_rounds: int = Field(default=0, ge=0)
    """Rounds until that distribution is uniform; 0 is uniform from the start."""
    dynamic_guidance_start: float = Field(default=0.0, ge=0.0, le=1.0)
    """Scale of the fake adapter inside the real score at first, falling by cosine to 0 (DMDR: 0.5); needs fake: lora."""
    dynamic_guidance_rounds: int = Field(default=0, ge=0)
    """Rounds until it is 0."""

    @model_validator(mode="after")
    def check_levels(self) -> Self:
        """Refuses empty bands and settings without effect."""
        if any(steps < 1 for steps in self.rollout_steps):
            raise ValueError(f"rollout_steps must hold numbers of 1 or more, not {list(self.rollout_steps)}")
        if self.dm_low >= self.dm_high:
            raise ValueError(f"dm_low {self.dm_low} must be below dm_high {self.dm_high}")
        if min(self.renoise_start) <= 0.0:
            raise ValueError("renoise_start must hold two positive numbers")
        if self.dynamic_guidance_start > 0.0 and self.fake != "lora":
            raise ValueError("dynamic_guidance_start needs fake: lora, it scales the adapter inside the real score")
        if self.ca_weight == 0.0 and self.dm_weight == 0.0:
            raise ValueError("ca_weight and dm_weight must not both be 0")
        return self


class HealthConfig(Section):
    """When a student is ill. Ratios are those of its samples to the teacher's on the same prompts and noise, raw weights and average."""

    every_rounds: int = Field(default=20, ge=1)
    """Rounds between examinations; a checkpoint is saved only after a healthy one."""
    probe_prompts: int = Field(default=8, ge=2, le=4096)
    """Prompts examined, each with two seeds."""
    teacher_steps: int = Field(default=16, ge=1, le=1000)
    """Steps of the guided teacher's samples."""
    min_ratio: float = Field(default=0.5, gt=0.0, lt=1.0)
    """Least contrast, saturation and fine detail."""
    max_ratio: float = Field(default=2.0, gt=1.0)
    """Greatest contrast, saturation and fine detail."""
    min_diversity: float = Field(default=0.3, ge=0.0, lt=1.0)
    """Least distance between two samples of one prompt, as a share of the teacher's."""
    max_critic_ratio: float = Field(default=100.0, gt=0.0)
    """Greatest ratio of the critic's loss to the student's since the last examination."""
    max_rollbacks: int = Field(default=2, ge=0)
    """Alarms that roll back to the last healthy state; the next one ends the run there."""

    @property
    def num_seeds(self) -> int:
        """Samples of every probe prompt."""
        return 2


class DistillConfig(Section):
    """The Turbo stage: a student of few steps without guidance."""

    num_student_steps: int = Field(default=8, ge=1, le=64)
    """Steps of the student, and of the exported sampler."""
    shift: float = Field(default=4.0, gt=0.0, le=100.0)
    """Static shift of its schedule."""
    guidance_scale: float = Field(default=4.0, ge=1.0, le=100.0)
    """Guidance of the teacher that the student takes in."""
    teachers: Literal["committee", "single"] = "committee"
    """`committee`: the experts that came with the model. `single`: the model they grew from teaches everything."""
    prompts_per_round: int = Field(default=8, ge=1, le=65536)
    """Prompts of one rollout (of each process)."""
    betas: tuple[float, float] = (0.0, 0.999)
    """Adam's decays: no momentum, because the fake score moves under the student (they replace training.betas)."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    """Replaces training.weight_decay."""
    ema_decay: float = Field(default=0.98, ge=0.0, lt=1.0)
    """Decay of the student's moving average (replaces training.ema_decay); short, for runs of some hundred updates."""
    folding: FoldingConfig = FoldingConfig()
    """First phase."""
    matching: MatchingConfig = MatchingConfig()
    """Second phase."""
    routing: RoutingConfig = RoutingConfig()
    """Who teaches what."""
    health: HealthConfig = HealthConfig()
    """Alarms, roll-back and the stop rule."""

    @model_validator(mode="after")
    def check_phases(self) -> Self:
        """Refuses a run that does nothing."""
        if self.folding.steps == 0 and self.matching.rounds == 0:
            raise ValueError("folding.steps and matching.rounds must not both be 0")
        return self
