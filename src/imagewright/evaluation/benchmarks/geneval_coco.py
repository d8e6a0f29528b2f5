"""Suite geneval_coco: GenEval's six tasks over photographs of COCO's classes, judged by an object detector.

The suite `geneval` asks for composed scenes and needs no network; this one is for models that paint photographs.
"""

from __future__ import annotations

from typing import Final

from imagewright.evaluation.benchmarks.context import SuiteContext
from imagewright.evaluation.benchmarks.geneval_prompts import generated_prompts, geneval_prompts
from imagewright.evaluation.benchmarks.official import read_pinned
from imagewright.evaluation.benchmarks.suite import Suite, suite_card
from imagewright.evaluation.formulas import GENEVAL_TASKS
from imagewright.evaluation.judges.detector import NAME, Detector
from imagewright.evaluation.judges.object_trial import object_cards, read_pictures, tried_tasks
from imagewright.evaluation.judges.objects import ObjectJudge

SUITE: Final = "geneval_coco"
NOTE = f"Objects by {NAME}, colours by rules on pixels; the paper asks Mask2Former and CLIP, so its figures are no measure for these."


def geneval_coco_suite(context: SuiteContext) -> Suite:
    """The benchmark's own prompts where a file is configured, else our own in its mix; tasks whose judge is refused are left out.

    Raises InputError when the detector's package is missing or holds other files.
    """
    config = context.config
    file = config.benchmarks.get(SUITE)
    prompts = geneval_prompts(read_pinned(SUITE, file), SUITE) if file else generated_prompts(SUITE, context.seed, config.geneval_per_task)
    detector = Detector()
    judge = ObjectJudge(detector)
    pictures = read_pictures(config.detector_trial) if config.detector_trial else []
    cards = object_cards(context, judge, NAME, detector.digest, pictures)
    refused = tried_tasks(cards)
    note = NOTE if file else f"{NOTE} Prompts are of our own drawing, not the paper's."
    made = suite_card(SUITE, prompts, file.sha256 if file else "generated", note)
    made = made.model_copy(update={"judges": list(cards.values()), "refused": refused})
    return Suite(SUITE, GENEVAL_TASKS, tuple(prompts), made, {task: judge for task in GENEVAL_TASKS if task not in refused})
