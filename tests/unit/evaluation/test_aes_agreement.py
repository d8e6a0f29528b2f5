"""What lets the aesthetic model rank a generator's samples, and what does not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from imagewright.evaluation.aes_agreement import (
    RECONSTRUCTIONS,
    EvidenceError,
    Figure,
    SourceFigures,
    figure,
    read_evidence,
    require_right_to_rank,
    shape_integrity,
    weigh_evidence,
)
from imagewright.evaluation.scene_judge import ScenePrompt

CIRCLE = ScenePrompt("single", (("circle", None),))
AES, MODEL = "a" * 64, "b" * 64


def drawing(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """Red circles on white, 64 px."""
    image = Image.new("RGB", (64, 64), "white")
    for box in boxes:
        ImageDraw.Draw(image).ellipse(box, fill=(220, 30, 30))
    return np.asarray(image)


def evidence_of(reconstructions: float, samples: float, **changes: str):  # type: ignore[no-untyped-def]
    """Evidence whose scores follow integrity with these signs."""
    rng = np.random.default_rng(0)
    measured = {}
    for name, sign in ((RECONSTRUCTIONS, reconstructions), ("samples_4_steps", samples)):
        integrity = rng.random(40)
        measured[name] = ((sign * integrity + 0.05 * rng.random(40)).tolist(), rng.random(40).tolist(), integrity.tolist())
    digests = {"aes_digest": AES, "generator_digest": MODEL} | changes
    return weigh_evidence(measured, origin="simulated", baseline="sharpness", **digests)


def test_a_whole_shape_counts_nearly_one_and_a_missing_or_wrong_one_nothing() -> None:
    assert shape_integrity(drawing((16, 16, 48, 48)), CIRCLE) > 0.8
    assert shape_integrity(drawing(), CIRCLE) == 0.0
    assert shape_integrity(drawing((16, 16, 48, 48)), ScenePrompt("single", (("triangle", None),))) == 0.0


def test_debris_and_missing_copies_lower_integrity() -> None:
    whole, more = shape_integrity(drawing((4, 4, 28, 28)), CIRCLE), shape_integrity(drawing((4, 4, 28, 28), (36, 36, 60, 60)), CIRCLE)
    assert more == pytest.approx(whole / 2, rel=0.15)
    three = ScenePrompt("counting", (("circle", None),), count=3)
    assert shape_integrity(drawing((4, 4, 28, 28)), three) == pytest.approx(whole / 3, rel=0.01)


def test_bent_shapes_are_less_whole_than_clean_ones() -> None:
    assert shape_integrity(drawing((12, 22, 52, 42), (24, 12, 40, 52)), CIRCLE) < shape_integrity(drawing((12, 12, 52, 52)), CIRCLE)


def test_evidence_above_zero_on_all_and_on_samples_gives_the_right() -> None:
    evidence = evidence_of(1.0, 1.0)
    assert evidence.may_rank
    require_right_to_rank(evidence, AES, MODEL)


@pytest.mark.parametrize(("reconstructions", "samples"), [(1.0, -1.0), (1.0, 0.0), (-1.0, -1.0)])
def test_reconstructions_alone_do_not_carry_the_verdict(reconstructions: float, samples: float) -> None:
    evidence = evidence_of(reconstructions, samples)
    assert not evidence.may_rank
    with pytest.raises(EvidenceError, match="both intervals above zero"):
        require_right_to_rank(evidence, AES, MODEL)


@pytest.mark.parametrize(("low", "may"), [(0.0, False), (1e-9, True)])
def test_the_interval_must_be_above_zero_not_at_it(low: float, may: bool) -> None:
    part = SourceFigures(model=Figure(srcc=0.2, low=low, high=0.4, num=9), baseline=None, mean_integrity=0.5)
    assert evidence_of(1.0, 1.0).model_copy(update={"overall": part, "samples": part}).may_rank is may


def test_evidence_about_other_weights_gives_no_right() -> None:
    with pytest.raises(EvidenceError, match=r"aes_evidence\.aes_digest.*\n?.*aes_evidence\.generator_digest"):
        require_right_to_rank(evidence_of(1.0, 1.0), "c" * 64, "d" * 64)


def test_integrity_that_never_varies_says_nothing() -> None:
    assert figure([0.1, 0.2, 0.3], [0.0, 0.0, 0.0], 0) is None
    assert not weigh_evidence(
        {"samples_4_steps": ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [0.0, 0.0, 0.0])},
        aes_digest=AES, generator_digest=MODEL, origin="human", baseline="sharpness",
    ).may_rank  # fmt: skip


def test_what_is_read_back_decides_and_a_written_verdict_does_not(tmp_path: Path) -> None:
    evidence = evidence_of(1.0, -1.0)
    (tmp_path / "evidence.json").write_text(evidence.model_dump_json())
    assert read_evidence(tmp_path) == evidence
    (tmp_path / "evidence.json").write_text(json.dumps(json.loads(evidence.model_dump_json()) | {"may_rank": True}))
    with pytest.raises(EvidenceError, match="is no evidence"):
        read_evidence(tmp_path)
