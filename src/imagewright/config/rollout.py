"""Section `rollout`: how a promotion reaches the servers of a cluster, step by step."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from imagewright.config.base import Section

Percent = int


class RolloutConfig(Section):
    """A canary that takes more and more requests, and none at the first failed probe. Names are those the serving chart renders."""

    kind: Literal["none", "http_route", "inference_service"] = "none"
    """none: servers follow the champion themselves. http_route: a canary Deployment behind a route's weights. inference_service: KServe."""
    namespace: str = ""
    """Namespace of the servers; empty takes that of the promoting pod."""
    release: str = ""
    """Full name of the serving release: `<release>-route`, `<release>-canary`, `<release>-stable`, or the InferenceService itself."""
    steps: tuple[Percent, ...] = (5, 25, 50, 100)
    """Percent of requests the canary gets, one step after another."""
    bake_seconds: float = Field(default=60.0, ge=0.0)
    """How long each step is probed before the next one."""
    probe_every_seconds: float = Field(default=5.0, gt=0.0)
    """Pause between two probes."""
    max_failed_probes: int = Field(default=0, ge=0)
    """Failed probes of one step that are put up with; one more rolls back."""
    ready_deadline_seconds: float = Field(default=900.0, gt=0.0)
    """Longest wait for the canary to answer with the new model, and for the stable servers to follow afterwards."""
    canary_url: str = Field(default="", pattern=r"^(https?://\S+)?$")
    """Where the canary is probed, for example http://<release>-canary.<namespace>.svc."""
    stable_url: str = Field(default="", pattern=r"^(https?://\S+)?$")
    """Where the stable servers are probed after the promotion; http_route only."""

    @model_validator(mode="after")
    def complete(self) -> Self:
        """Refuses a rollout that does not know what to turn or what to ask, and steps that do not rise to 100."""
        if self.kind == "none":
            return self
        missing = [name for name in ("release", "canary_url") if not getattr(self, name)]
        if self.kind == "http_route" and not self.stable_url:
            missing.append("stable_url")
        if missing:
            raise ValueError(f"kind {self.kind} needs {', '.join(missing)}")
        if not self.steps or list(self.steps) != sorted(set(self.steps)) or self.steps[0] < 1 or self.steps[-1] != 100:
            raise ValueError("steps must rise from at least 1 to 100")
        return self
