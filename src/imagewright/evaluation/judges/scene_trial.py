"""Tries whoever answers questions on composed scenes: every fact of a picture is a question with yes, a changed one a question with no."""

from __future__ import annotations

import numpy as np

from imagewright.evaluation.benchmarks.context import SuiteContext
from imagewright.evaluation.calibration import change_one_attribute
from imagewright.evaluation.judges.questions import Answerer, Question
from imagewright.evaluation.judges.trust import Trial, renamed, try_judge
from imagewright.evaluation.judges.verdicts import Pixels, Prompt
from imagewright.evaluation.results import JudgeCard
from imagewright.evaluation.scene_judge import ScenePrompt, objects_of_scene, prompt_from_scene, says_true

NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
MAX_TRIAL_SCENES = 60


def question_of(said: ScenePrompt) -> Question:
    """A whole scene prompt as one question."""
    names = [f"{colour} {shape}" if colour else shape for shape, colour in said.objects]
    if said.count is not None:
        number = NUMBERS[said.count] if said.count < len(NUMBERS) else str(said.count)
        text = f"Are there exactly {number} {names[0]}{'' if said.count == 1 else 's'}?"
    elif said.relation is not None:
        text = f"Is there a {names[0]} {said.relation} a {names[1]}?"
    else:
        text = f"Is there {' and '.join(f'a {name}' for name in names)}?"
    return Question("whole", text, (), said)


def answerer_card(context: SuiteContext, answerer: Answerer, name: str, digest: str) -> JudgeCard:
    """The card of an answerer, on at most MAX_TRIAL_SCENES held-out scenes with colours named wherever an object is drawn."""
    rng = np.random.default_rng(context.seed)
    rows = list(zip(context.scenes.images, context.scenes.rows, strict=True))[:MAX_TRIAL_SCENES]
    said = [prompt_from_scene(row.scene) for _, row in rows]
    truths = [objects_of_scene(row.scene) for _, row in rows]
    prompts = [
        Prompt(row.sample_key, one.task, question_of(one).text, (one, truth))
        for (_, row), one, truth in zip(rows, said, truths, strict=True)
    ]
    changed = []
    for one, truth in zip(said, truths, strict=True):
        other = change_one_attribute(one, rng)
        for _ in range(20):  # a changed prompt may happen to be true of the picture
            if not says_true(truth, other):
                break
            other = change_one_attribute(one, rng)
        changed.append((other, ()))

    def judge(image: Pixels, prompt: Prompt) -> float:
        return float(answerer(image, question_of(prompt.truth[0])))

    def same(own: Prompt, other: Prompt) -> bool:
        return says_true(own.truth[1], other.truth[0])

    images = context.scenes.images[: len(rows)]
    trial = Trial([(image, prompt) for (image, _), prompt in zip(rows, prompts, strict=True)], renamed(prompts, changed), same=same)
    return try_judge(name, digest, judge, trial, context.seed, list(context.through_vae(images)))
