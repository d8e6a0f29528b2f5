"""GenEval's rules (2310.11513): does what was found in an image satisfy what its prompt asked for?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imagewright.evaluation.benchmarks.geneval_prompts import ObjectTruth
from imagewright.evaluation.judges.detector import Detect, Found, colour_of
from imagewright.evaluation.judges.verdicts import Pixels, Prompt

COUNTING_CONFIDENCE = 0.5
"""Counting punishes one box too many, so it takes surer ones (0.9 in the paper, for a detector with higher confidences). Chosen."""
POSITION_MARGIN = 0.1
"""Share of both sizes that two centres may differ by without one lying beside the other (GenEval's value)."""
MIN_DIRECTION = 0.5


@dataclass(frozen=True)
class Seen:
    """One object with its colour, where that has a name. box: (left, top, right, bottom) as shares of the image's sides."""

    name: str
    box: tuple[float, float, float, float]
    colour: str | None = None


def satisfies(seen: Sequence[Seen], truth: ObjectTruth) -> bool:
    """Whether every wanted object is there in its number, colour and place, and nothing too often. seen: the surest first."""
    matched: list[list[Seen]] = []
    for wanted in truth.include:
        named = [item for item in seen if item.name == wanted.name]
        group = named[: wanted.count]
        if len(group) < wanted.count:
            return False
        if wanted.colour is not None and sum(item.colour == wanted.colour for item in named) < wanted.count:
            return False
        if wanted.relation is not None:
            relation, other = wanted.relation
            if not all(relation in relations(item, target) for item in group for target in matched[other]):
                return False
        matched.append(group)
    return all(sum(item.name == name for item in seen) < count for name, count in truth.exclude)


def relations(first: Seen, second: Seen) -> set[str]:
    """How the first object lies to the second: none, one, or two of left of, right of, above, below."""
    boxes = np.array([first.box, second.box]).reshape(2, 2, 2)
    centres, sizes = boxes.mean(axis=1), np.abs(boxes[:, 1] - boxes[:, 0])
    offset = centres[0] - centres[1]
    beyond = np.maximum(np.abs(offset) - POSITION_MARGIN * sizes.sum(axis=0), 0) * np.sign(offset)
    if np.abs(beyond).max() < 1e-3:
        return set()
    x, y = beyond / np.linalg.norm(offset)
    bounds = {"left of": -x, "right of": x, "above": -y, "below": y}
    return {name for name, share in bounds.items() if share > MIN_DIRECTION}


@dataclass(frozen=True)
class ObjectJudge:
    """1 for an image whose detections satisfy the prompt's `ObjectTruth`, else 0."""

    detect: Detect

    def __call__(self, image: Pixels, prompt: Prompt) -> float:
        """Looks for colours only where the prompt names one."""
        truth: ObjectTruth = prompt.truth
        least = COUNTING_CONFIDENCE if truth.exclude else 0.0
        coloured = any(wanted.colour for wanted in truth.include)
        found = [item for item in self.detect(image) if item.confidence >= least]
        return float(satisfies([seen_in(image, item, coloured) for item in found], truth))


def seen_in(image: Pixels, found: Found, coloured: bool) -> Seen:
    """A detection with the colour of its pixels, where that matters."""
    return Seen(found.name, found.box, colour_of(image, found.box) if coloured else None)
