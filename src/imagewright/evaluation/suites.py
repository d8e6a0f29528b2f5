"""Suites of prompts over composed scenes: the six GenEval tasks, seen and compositional, with a leak check that runs first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imagewright.data.manifest import ManifestRow
from imagewright.data.pixels import kept_rows
from imagewright.errors import InputError, Problem
from imagewright.evaluation.formulas import GENEVAL_TASKS
from imagewright.evaluation.scene_judge import ScenePrompt, prompt_from_scene

SUITE = "geneval"
SPLITS = {"seen": "validation", "compositional": "holdout_compositional"}
PROMPT_FORM = "short"
LONG_FORM = "long"


class LeakError(InputError):
    """Prompts of a held-out suite that the training data holds."""


@dataclass(frozen=True)
class SuitePrompt:
    """One prompt with what it says, as the judge reads it."""

    prompt_id: str
    """Sample key of the scene it describes."""
    split: str
    task: str
    text: str
    said: ScenePrompt


def scene_suite(curated: Path, per_task: int, seed: int) -> list[SuitePrompt]:
    """Up to per_task prompts with different texts of every task and split, drawn from held-out scenes of the curated data.

    Raises InputError when there is no scene to ask for, LeakError when a compositional prompt occurs among training captions.
    """
    prompts: list[SuitePrompt] = []
    for split, manifest_split in SPLITS.items():
        rows = [row for row in kept_rows(curated, (manifest_split,)) if row.scene]
        by_task: dict[str, dict[str, SuitePrompt]] = defaultdict(dict)
        for row in shuffled(rows, seed):
            prompt = suite_prompt(row, split)
            if prompt is not None and len(by_task[prompt.task]) < per_task:
                by_task[prompt.task].setdefault(prompt.text, prompt)
        prompts += [prompt for task in GENEVAL_TASKS for prompt in by_task[task].values()]
    if not prompts:
        raise InputError(
            Problem("curated", f"must hold kept scenes in {', '.join(SPLITS.values())}", 0, "set data.scenes.holdout_fraction")
        )
    refuse_leaks(prompts, kept_rows(curated, ("train",)))
    return prompts


def suite_prompt(row: ManifestRow, split: str) -> SuitePrompt | None:
    """The prompt of one scene: its short English caption; None when it has no English caption."""
    english = [caption for caption in row.captions if caption.language == "en"]
    chosen = next((caption for caption in english if caption.form == PROMPT_FORM), english[0] if english else None)
    if chosen is None:
        return None
    said = prompt_from_scene(row.scene)
    return SuitePrompt(row.sample_key, split, said.task, chosen.text, said)


def long_caption(row: ManifestRow) -> str:
    """The long English caption of a scene, which names background and style, else any English one; empty when there is none."""
    english = [caption for caption in row.captions if caption.language == "en"]
    return next((caption.text for caption in english if caption.form == LONG_FORM), english[0].text if english else "")


def shuffled(rows: Sequence[ManifestRow], seed: int) -> list[ManifestRow]:
    """Rows in a fixed random order."""
    return [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]


def refuse_leaks(prompts: Iterable[SuitePrompt], training: Iterable[ManifestRow]) -> None:
    """Raises LeakError when the text of a compositional prompt is a caption of a training sample."""
    seen = {normal(caption.text) for row in training for caption in row.captions}
    leaked = [prompt.text for prompt in prompts if prompt.split == "compositional" and normal(prompt.text) in seen]
    if leaked:
        raise LeakError(
            Problem("evaluation.prompts", "must not occur in the training captions", leaked[:5], "hold these scenes out of training")
        )


def normal(text: str) -> str:
    """Text without case, surrounding space and final full stop."""
    return text.strip().rstrip(".").casefold()
