"""The prompts whose samples are compared, each with the check that grades a sample of it: composed scenes, and rows that quote text."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imagewright.curation.rewriting import visible_texts
from imagewright.data.manifest import ManifestRow
from imagewright.data.pixels import kept_rows
from imagewright.data.preferences import PreferenceError
from imagewright.errors import Problem
from imagewright.evaluation.formulas import GENEVAL_TASKS
from imagewright.evaluation.judges.text import read_lines, text_accuracy
from imagewright.evaluation.scene_grade import Grade, grade
from imagewright.evaluation.suites import SuitePrompt, normal, shuffled, suite_prompt

PROMPT_SPLIT = "train"
TEXT = "text"
"""Task of prompts that quote text, and the dimension of what OCR reads."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class CheckedPrompt:
    """One prompt and how much of it is true of an image [H, W, 3]."""

    prompt_id: str
    """Sample key of the row it describes."""
    task: str
    text: str
    check: Callable[[Pixels], Grade]
    quoted: str = ""
    """The visible text it asks for, a line each."""


def choose_prompts(curated: Path, count: int, seed: int) -> list[SuitePrompt]:
    """Up to `count` different prompts of training scenes, the tasks in turn so that each has its share.

    Raises PreferenceError when there is no scene.
    """
    by_task: dict[str, dict[str, SuitePrompt]] = {task: {} for task in GENEVAL_TASKS}
    for row in shuffled([row for row in kept_rows(curated, (PROMPT_SPLIT,)) if row.scene], seed):
        prompt = suite_prompt(row, PROMPT_SPLIT)
        if prompt is not None:
            by_task[prompt.task].setdefault(normal(prompt.text), prompt)
    queues = [list(found.values()) for found in by_task.values()]
    turns = [queue[turn] for turn in range(max(map(len, queues))) for queue in queues if turn < len(queue)]
    if not turns:
        fix = "curate composed scenes, or collect human votes"
        raise PreferenceError(Problem("curated", f"must hold kept scenes with English captions in {PROMPT_SPLIT}", 0, fix))
    return turns[:count]


def scene_prompts(curated: Path, seed: int) -> list[CheckedPrompt]:
    """Every prompt of `choose_prompts`, graded by the scene it names."""
    prompts = choose_prompts(curated, sys.maxsize, seed)
    return [CheckedPrompt(one.prompt_id, one.task, one.text, partial(grade, prompt=one.said)) for one in prompts]


def text_prompts(curated: Path, seed: int) -> list[CheckedPrompt]:
    """Different prompts of training rows that quote visible text, graded by what OCR reads, in a fixed random order."""
    found: dict[str, CheckedPrompt] = {}
    for row in shuffled([row for row in kept_rows(curated, (PROMPT_SPLIT,)) if row.visible_text], seed):
        text, quoted = quoting_caption(row)
        if quoted:
            prompt = CheckedPrompt(row.sample_key, TEXT, text, partial(text_grade, quoted=quoted), quoted)
            found.setdefault(normal(text), prompt)
    return list(found.values())


def quoting_caption(row: ManifestRow) -> tuple[str, str]:
    """The English caption that quotes most of the row's visible text, and what it quotes, a line each; empty where none does."""
    found = [("", "")]
    for caption in row.captions:
        if caption.language == "en":
            found.append((caption.text, "\n".join(text for text in visible_texts(caption.text) if text in row.visible_text)))
    return max(found, key=lambda one: len(one[1]))


def text_grade(image: Pixels, quoted: str) -> Grade:
    """Grades an image [H, W, 3] by the share of the quoted text that OCR reads in it."""
    accuracy = text_accuracy(read_lines(image), quoted)
    return Grade({TEXT: accuracy}, accuracy)
