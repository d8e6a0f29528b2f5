"""Whether a judge may be believed: ceilings and floors of any judge on images whose truth is known.

The rule is the same for every judge: refused below 0.95 true positives or above 0.05 false positives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from imagewright.evaluation.calibration import MAX_FALSE_POSITIVE, MIN_TRUE_POSITIVE, blank_images, noise_images
from imagewright.evaluation.judges.verdicts import Judge, Pixels, Prompt, Tally, ask
from imagewright.evaluation.results import JudgeCard

Known = tuple[Pixels, Prompt]
"""An image and the prompt it was made from."""
NUM_NOISE = 8
MAX_WRONG_PROMPTS = 24
"""Prompts put to blank and noise images: a judge may take a second for each."""


@dataclass(frozen=True)
class Trial:
    """What a judge is tried on. changed: known[i]'s prompt with one thing different."""

    known: Sequence[Known]
    changed: Sequence[Prompt]
    threshold: float = 1.0
    """Score from which a verdict counts as yes."""
    same: Callable[[Prompt, Prompt], bool] = lambda first, second: first.truth == second.truth
    """Whether two prompts ask for the same, so that one's image is right for the other."""


def try_judge(name: str, digest: str, judge: Judge, trial: Trial, seed: int = 0, through: Sequence[Pixels] = ()) -> JudgeCard:
    """The card of a judge: ceiling, ceiling on `through` (the same images after the autoencoder), floors, failures.

    A failed verdict is a no where yes is right, and a yes where no is right: failing can only make a judge look worse.
    """
    assert len(trial.known) == len(trial.changed) > 1, "a trial needs two images and a changed prompt for each"
    rng, tally = np.random.default_rng(seed), Tally()
    images, prompts = [image for image, _ in trial.known], [prompt for _, prompt in trial.known]

    def yes(image: Pixels, prompt: Prompt, on_failure: bool) -> bool:
        value = ask(judge, image, prompt, tally)
        return on_failure if value is None else value >= trial.threshold

    def share(pairs: Sequence[Known], on_failure: bool) -> float:
        return float(np.mean([yes(image, prompt, on_failure) for image, prompt in pairs])) if pairs else 0.0

    turned = [prompts[i] for i in rng.permutation(len(prompts))]
    shuffled = [(image, other) for (image, own), other in zip(trial.known, turned, strict=True) if not trial.same(own, other)]
    asked = prompts[:MAX_WRONG_PROMPTS]
    blank = blank_images(images[0].shape)
    noise = noise_images(images[0].shape, rng, NUM_NOISE)
    floors = {
        "shuffled": share(shuffled, True),
        "attribute changed": share(list(zip(images, trial.changed, strict=True)), True),
        "blank": share([(blank[i % len(blank)], prompt) for i, prompt in enumerate(asked)], True),
        "noise": share([(noise[i % len(noise)], prompt) for i, prompt in enumerate(asked)], True),
    }
    card = JudgeCard(
        name=name,
        digest=digest,
        num_images=len(images),
        ceiling=share(trial.known, False),
        ceiling_through_vae=share(list(zip(through, prompts, strict=True)), False) if through else None,
        floors=floors,
    )
    return card.model_copy(update={"failed": dict(tally.failed), "refused": reasons_against(card)})


def reasons_against(card: JudgeCard) -> str:
    """Why a judge is refused; empty when it is not."""
    reasons = []
    if card.ceiling < MIN_TRUE_POSITIVE:
        reasons.append(f"calls {card.ceiling:.3f} of ground truth right, at least {MIN_TRUE_POSITIVE} is required")
    for name, value in card.floors.items():
        if value > MAX_FALSE_POSITIVE:
            reasons.append(f"calls {value:.3f} of wrong images right ({name}), at most {MAX_FALSE_POSITIVE} is allowed")
    return "; ".join(reasons)


def renamed(prompts: Sequence[Prompt], truths: Sequence[object]) -> list[Prompt]:
    """The same prompts with other truths."""
    return [replace(prompt, truth=truth) for prompt, truth in zip(prompts, truths, strict=True)]
