"""May the aesthetic model rank a generator's samples? Its agreement with exact shape integrity on them decides.

The evidence is a payload of its own; `build-preferences` refuses a scorer whose evidence is missing, foreign or not above zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from imagewright.errors import InputError, Problem
from imagewright.evaluation.rank_statistics import MIN_SAMPLES, agreement
from imagewright.evaluation.scene_judge import MAX_SHAPE_ERROR, ScenePrompt, read_scene

EVIDENCE_NAME = "evidence.json"
MAX_EVIDENCE_BYTES = 1 << 20
RECONSTRUCTIONS = "vae_reconstructions"
FIX = "run `imagewright job evaluate-aesthetic` on this aesthetic model and this generator, or set preferences.aes_weight to 0"


class EvidenceError(InputError):
    """An aesthetic model that may not rank these samples."""


class Figure(BaseModel):
    """Spearman correlation with shape integrity, with its 95% bootstrap interval, over `num` pictures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    srcc: float
    low: float
    high: float
    num: int

    def __str__(self) -> str:
        return f"{self.srcc:.3f} [{self.low:.3f}, {self.high:.3f}]"


class SourceFigures(BaseModel):
    """One kind of picture. None where integrity does not vary, so that nothing can be said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Figure | None
    baseline: Figure | None
    mean_integrity: float


class AesEvidence(BaseModel):
    """What was measured, on which weights. Digests are those of the payloads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["imagewright-aes-evidence-1"] = "imagewright-aes-evidence-1"
    aes_digest: str
    generator_digest: str
    origin: Literal["human", "simulated"]
    """What the aesthetic model was trained on."""
    baseline: str
    """The single picture statistic beside it."""
    overall: SourceFigures
    """All pictures: reconstructions and samples of every kind."""
    samples: SourceFigures
    """Generated pictures only: reconstructions alone must not carry the verdict."""
    sources: dict[str, SourceFigures]

    @property
    def may_rank(self) -> bool:
        """The rule: both intervals lie above zero."""
        return all(part.model is not None and part.model.low > 0 for part in (self.overall, self.samples))


def shape_integrity(image: NDArray[np.uint8], prompt: ScenePrompt) -> float:
    """How whole the named shapes of an image [H, W, 3] are, 0..1: 1 - template error / largest error, a missing shape counts 0.

    Objects beyond the named ones lower it: debris is no integrity. It reads pixels and the ground truth only, never a learned model.
    """
    wanted = [shape for shape, _ in prompt.objects] * (prompt.count or 1)
    found = sorted(read_scene(image), key=lambda item: item.shape_error)
    left, total = list(found), 0.0
    for shape in wanted:
        match = next((item for item in left if item.shape == shape), None)
        if match is not None:
            left.remove(match)
            total += 1.0 - min(match.shape_error / MAX_SHAPE_ERROR, 1.0)
    return total / max(len(wanted), len(found), 1)


def figure(scores: Sequence[float], integrity: Sequence[float], seed: int, resamples: int = 1000) -> Figure | None:
    """Agreement of scores [n] with integrity [n]; None when there are too few pictures or integrity is constant."""
    if len(integrity) < MIN_SAMPLES or float(np.ptp(np.asarray(integrity))) == 0:
        return None
    found = agreement(scores, integrity, seed=seed, resamples=resamples)
    return Figure(srcc=found.srcc.value, low=found.srcc.low, high=found.srcc.high, num=found.num)


def weigh_evidence(
    measured: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float]]],
    *,
    aes_digest: str,
    generator_digest: str,
    origin: Literal["human", "simulated"],
    baseline: str,
    seed: int = 0,
) -> AesEvidence:
    """Evidence from (model scores, baseline scores, integrity) [n] by kind of picture. Raises InputError for values that are not finite."""

    def figures(names: Sequence[str]) -> SourceFigures:
        model, base, integrity = ([value for name in names for value in measured[name][column]] for column in range(3))
        mean = float(np.mean(integrity)) if integrity else 0.0
        return SourceFigures(model=figure(model, integrity, seed), baseline=figure(base, integrity, seed), mean_integrity=mean)

    return AesEvidence(
        aes_digest=aes_digest,
        generator_digest=generator_digest,
        origin=origin,
        baseline=baseline,
        overall=figures(list(measured)),
        samples=figures([name for name in measured if name != RECONSTRUCTIONS]),
        sources={name: figures([name]) for name in measured},
    )


def read_evidence(folder: Path) -> AesEvidence:
    """Reads a payload of `evaluate-aesthetic`. Raises EvidenceError when it is none."""
    try:
        path = folder / EVIDENCE_NAME
        if path.stat().st_size > MAX_EVIDENCE_BYTES:
            raise ValueError("it is larger than evidence can be")
        return AesEvidence.model_validate_json(path.read_bytes())
    except (OSError, ValidationError, ValueError) as error:
        raise EvidenceError(Problem("aes_evidence", f"is no evidence: {error}", str(folder), FIX)) from error


def require_right_to_rank(evidence: AesEvidence, aes_digest: str, generator_digest: str) -> None:
    """Raises EvidenceError unless the evidence is about these very weights and both its intervals are above zero."""
    problems = []
    if evidence.aes_digest != aes_digest:
        problems.append(Problem("aes_evidence.aes_digest", "must be that of the input aes", evidence.aes_digest, FIX))
    if evidence.generator_digest != generator_digest:
        problems.append(Problem("aes_evidence.generator_digest", "must be that of the sampled model", evidence.generator_digest, FIX))
    if not evidence.may_rank:
        shown = f"all {evidence.overall.model or 'not measurable'}, samples {evidence.samples.model or 'not measurable'}"
        rule = "must agree with shape integrity on the generator's samples, both intervals above zero"
        problems.append(Problem("aes", rule, shown, "train a better aesthetic model, or set preferences.aes_weight to 0"))
    if problems:
        raise EvidenceError(problems)
