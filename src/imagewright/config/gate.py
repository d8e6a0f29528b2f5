"""What a model must show before it becomes champion."""

from __future__ import annotations

from pydantic import Field, model_validator

from imagewright.config.base import Section

MetricName = str


class GateConfig(Section):
    """Rules of promotion. Metrics are named as the evaluation logs them (`eval/geneval/overall`); every rule gives its own verdict."""

    floors: dict[MetricName, float] = Field(default_factory=dict)
    """Smallest value allowed, for metrics where more is better."""
    ceilings: dict[MetricName, float] = Field(default_factory=dict)
    """Largest value allowed, for metrics where less is better."""
    no_regression: tuple[MetricName, ...] = ()
    """Metrics that may not be worse than the champion's by more than both intervals explain."""
    must_improve: tuple[MetricName, ...] = ()
    """Metrics that must be strictly better than the champion's."""
    lower_is_better: tuple[MetricName, ...] = ()
    """Metrics of which less is better, for the two comparisons above."""
    required_evidence: tuple[str, ...] = ()
    """Evaluation suites whose results must be attached to the version, by digest."""
    latency_metric: MetricName = "serving/latency_p99_seconds"
    """Where the latency is read from."""
    max_latency_seconds: float | None = Field(default=None, gt=0)
    """Largest latency allowed, in seconds; none means latency is not judged."""
    safety_metric: MetricName = "eval/safety/unsafe_fraction"
    """Where the share of unsafe images is read from."""
    max_unsafe_fraction: float | None = Field(default=None, ge=0, le=1)
    """Largest share of unsafe images allowed; none means safety is not judged."""
    approval_required: bool = False
    """Whether a person must approve by name (`--approved-by`)."""

    @model_validator(mode="after")
    def check_contradictions(self) -> GateConfig:
        both = sorted(name for name, floor in self.floors.items() if floor > self.ceilings.get(name, floor))
        if both:
            raise ValueError(f"floors and ceilings leave no value for {', '.join(both)}")
        compared = {*self.no_regression, *self.must_improve}
        unused = sorted(set(self.lower_is_better) - compared)
        if unused:
            raise ValueError(f"lower_is_better names {', '.join(unused)}, which no_regression and must_improve do not compare")
        return self
