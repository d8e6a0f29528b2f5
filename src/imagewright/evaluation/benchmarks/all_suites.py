"""The further suites of an evaluation, made ready before anything is painted: prompts, leak check, judges on trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from imagewright.data.pixels import kept_rows
from imagewright.evaluation.benchmarks.aes import aes_suite
from imagewright.evaluation.benchmarks.context import SuiteContext
from imagewright.evaluation.benchmarks.domains import domains_suite
from imagewright.evaluation.benchmarks.dpg import dpg_suite
from imagewright.evaluation.benchmarks.geneval_coco import geneval_coco_suite
from imagewright.evaluation.benchmarks.longtext import longtext_suite
from imagewright.evaluation.benchmarks.official import refuse_leaked
from imagewright.evaluation.benchmarks.oneig import oneig_suite
from imagewright.evaluation.benchmarks.suite import Suite

MAKERS: Mapping[str, Callable[[SuiteContext], Suite]] = {
    "geneval_coco": geneval_coco_suite,
    "longtext": longtext_suite,
    "oneig": oneig_suite,
    "dpg": dpg_suite,
    "aes": aes_suite,
    "domains": domains_suite,
}


def make_suites(context: SuiteContext) -> list[Suite]:
    """Every configured suite that paints. Raises LeakError when a benchmark's own prompt is a training caption."""
    suites = [MAKERS[name](context) for name in context.config.suites if name in MAKERS]
    pinned = [suite for suite in suites if suite.name in context.config.benchmarks]
    if pinned:
        training = kept_rows(context.curated, ("train",))
        for suite in pinned:
            refuse_leaked(suite.name, suite.prompts, training)
    return suites
