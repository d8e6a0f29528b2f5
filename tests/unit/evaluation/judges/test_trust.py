"""When a judge is refused: the same two bounds for every judge."""

from __future__ import annotations

import numpy as np
import pytest

from imagewright.evaluation.judges.trust import Trial, reasons_against, renamed, try_judge
from imagewright.evaluation.judges.verdicts import JudgeFailed, Pixels, Prompt
from imagewright.evaluation.results import JudgeCard


def level_trial(count: int = 40) -> Trial:
    """Images of one grey level each; the truth is the level."""
    levels = [100 + place for place in range(count)]
    prompts = [Prompt(str(level), "grey", f"grey {level}", level) for level in levels]
    images = [np.full((8, 8, 3), level, np.uint8) for level in levels]
    return Trial(list(zip(images, prompts, strict=True)), renamed(prompts, [level + 90 for level in levels]))


def exact(image: Pixels, prompt: Prompt) -> float:
    return float(image.std() < 1 and round(float(image.mean())) == prompt.truth)


def test_an_exact_judge_is_believed() -> None:
    card = try_judge("levels", "d", exact, level_trial())
    assert (card.ceiling, max(card.floors.values()), card.refused) == (1.0, 0.0, "")
    assert set(card.floors) == {"shuffled", "attribute changed", "blank", "noise"}
    assert card.ceiling_through_vae is None


def test_a_judge_that_likes_everything_is_refused_with_its_floors() -> None:
    card = try_judge("yes", "d", lambda *_: 1.0, level_trial())
    assert card.ceiling == 1.0
    assert "attribute changed" in card.refused
    assert "blank" in card.refused


def test_a_judge_that_crashes_looks_worse_and_never_better() -> None:
    def fails(*_: object) -> float:
        raise JudgeFailed("no answer")

    card = try_judge("silent", "d", fails, level_trial())
    assert card.ceiling == 0.0
    assert card.floors["shuffled"] == 1.0
    assert card.failed["no answer"] > 40


@pytest.mark.parametrize(
    ("ceiling", "floor", "refused"), [(0.95, 0.05, False), (0.9499, 0.05, True), (0.95, 0.0501, True), (1.0, 0.0, False)]
)
def test_bounds_of_trust_hold_just_at_and_not_just_beyond(ceiling: float, floor: float, refused: bool) -> None:
    card = JudgeCard(name="j", digest="d", num_images=100, ceiling=ceiling, ceiling_through_vae=None, floors={"shuffled": floor})
    assert bool(reasons_against(card)) == refused
