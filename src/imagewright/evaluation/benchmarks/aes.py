"""Suite aes: the aesthetic model's mean score, as a share of 100, on images of the composed scenes' prompts."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from imagewright.annotation.degradations import DAMAGES, degrade
from imagewright.errors import InputError, Problem
from imagewright.evaluation.benchmarks.context import SuiteContext
from imagewright.evaluation.benchmarks.dpg import scene_prompts
from imagewright.evaluation.benchmarks.suite import Suite, suite_card
from imagewright.evaluation.calibration import blank_images, noise_images
from imagewright.evaluation.judges.trust import reasons_against
from imagewright.evaluation.judges.verdicts import Pixels, Prompt
from imagewright.evaluation.results import JudgeCard
from imagewright.losses.score_distribution import MAX_SCORE
from imagewright.models.aesthetic import AestheticScorer, load_scorer

SUITE = "aes"
TASK = "score"
TRIAL_SEVERITY = 0.7
TRIAL_SCENES = 60


def aes_suite(context: SuiteContext) -> Suite:
    """Raises InputError when no aesthetic model was given."""
    if context.aes is None:
        raise InputError(
            Problem("evaluation.suites", "aes needs the input `aes`", None, "give the record of train-aesthetic, or promote an aes")
        )
    scorer = load_scorer(context.aes)
    card = scorer_card(context, scorer)
    prompts = [Prompt(prompt.prompt_id, TASK, prompt.text, None) for prompt in scene_prompts(context, "short", SUITE, TASK)]
    made = suite_card(SUITE, prompts, "generated", f"The model learned from {scorer.origin} ratings.")
    made = made.model_copy(update={"judges": [card], "refused": {"suite": card.refused} if card.refused else {}})

    def judge(image: Pixels, _: Prompt) -> float:
        return float(scorer.score(image[None])[0]) / MAX_SCORE

    return Suite(SUITE, (TASK,), tuple(prompts), made, {} if card.refused else {TASK: judge})


def scorer_card(context: SuiteContext, scorer: AestheticScorer) -> JudgeCard:
    """Ceiling: held-out scenes that score above their own damaged copy. Floors: damaged, blank and noise images above a clean one."""
    images = context.scenes.images[:TRIAL_SCENES]
    rng, kinds = context.rng(SUITE), tuple(DAMAGES)
    damaged = np.stack([degrade(image, [(kinds[i % len(kinds)], TRIAL_SEVERITY)], rng).image for i, image in enumerate(images)])
    clean, worse, again = scorer.score(images), scorer.score(damaged), scorer.score(context.through_vae(images))
    middle = float(np.median(clean))
    floors = {
        "damaged": float((worse >= clean).mean()),
        "blank": float((scorer.score(np.stack(blank_images(images[0].shape))) >= middle).mean()),
        "noise": float((scorer.score(np.stack(noise_images(images[0].shape, rng))) >= middle).mean()),
    }
    card = JudgeCard(
        name="aesthetic model",
        digest=payload_digest(context.aes),
        num_images=len(images),
        ceiling=float((clean > worse).mean()),
        ceiling_through_vae=float((again > worse).mean()),
        floors=floors,
    )
    return card.model_copy(update={"refused": reasons_against(card)})


def payload_digest(folder: Path | None) -> str:
    """SHA-256 over the model's files."""
    assert folder is not None, "the suite has a model"
    digest = hashlib.sha256()
    for path in sorted((folder / SUITE if (folder / SUITE).is_dir() else folder).rglob("*")):
        if path.is_file():
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
