"""Suite dpg: dense prompts with dependent questions (DPG-Bench, ELLA 2403.05135); a question counts only when its parents are yes."""

from __future__ import annotations

from functools import partial
from typing import Final

from imagewright.data.pixels import kept_rows
from imagewright.evaluation.benchmarks.context import SuiteContext
from imagewright.evaluation.benchmarks.official import dpg_prompts, read_pinned
from imagewright.evaluation.benchmarks.suite import Suite, suite_card
from imagewright.evaluation.judges.questions import answer_all, answerer_of, facts_of
from imagewright.evaluation.judges.scene_trial import answerer_card
from imagewright.evaluation.judges.verdicts import Prompt
from imagewright.evaluation.scene_judge import objects_of_scene, prompt_from_scene
from imagewright.evaluation.suites import shuffled

SUITE: Final = "dpg"
TASK = "dense"


def dpg_suite(context: SuiteContext) -> Suite:
    """The benchmark's own prompts where a file is configured, else the long captions of held-out scenes."""
    file = context.config.benchmarks.get(SUITE)
    prompts = dpg_prompts(read_pinned(SUITE, file), SUITE) if file else scene_prompts(context, "long", SUITE, TASK)
    answerer = answerer_of(context.config.question_judge)
    card = answerer_card(context, answerer, answerer.name, answerer.digest)
    refused = card.refused
    if file and context.config.question_judge.kind == "scene":
        refused = "the benchmark's questions are in words: set evaluation.question_judge to a model"
    made = suite_card(SUITE, prompts, file.sha256 if file else "generated", f"Answered by {answerer.name}; the paper asks mPLUG-large.")
    made = made.model_copy(update={"judges": [card], "refused": {"suite": refused} if refused else {}})
    return Suite(SUITE, (TASK,), tuple(prompts), made, {} if refused else {TASK: partial(answer_all, answerer)})


def scene_prompts(context: SuiteContext, form: str, suite: str, task: str) -> list[Prompt]:
    """Held-out compositional scenes asked for by their English caption of a form, with questions about everything it says.

    The long form names every colour; the short one only those its task names.
    """
    found: dict[str, Prompt] = {}
    for row in shuffled([row for row in kept_rows(context.curated, ("holdout_compositional", "validation")) if row.scene], context.seed):
        text = next((caption.text for caption in row.captions if (caption.form, caption.language) == (form, "en")), "")
        if text and len(found) < context.config.suite_prompts:
            said = prompt_from_scene(row.scene)
            colours = [item.colour for item in objects_of_scene(row.scene)] if form == "long" else []
            found.setdefault(text, Prompt(f"{suite}-{task}-{row.sample_key}", task, text, facts_of(said, colours)))
    return list(found.values())
