"""How benchmarks form their totals; checked in the tests against the numbers their papers print."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

GENEVAL_TASKS = ("single", "two", "counting", "colors", "position", "color_attr")
ONEIG_DIMENSIONS = ("alignment", "text", "reasoning", "style", "diversity")
HUMAN_DIMENSIONS = ("spatial", "world", "physics", "aesthetics", "style", "creativity", "knowledge")


def geneval_overall(tasks: Mapping[str, float]) -> float:
    """Unweighted mean of the six tasks (Ghosh et al., GenEval)."""
    return float(np.mean([tasks[task] for task in GENEVAL_TASKS]))


def oneig_overall(dimensions: Mapping[str, float]) -> float:
    """Unweighted mean of the five dimensions (OneIG-Bench)."""
    return float(np.mean([dimensions[name] for name in ONEIG_DIMENSIONS]))


def longtext_overall(english: float, chinese: float) -> float:
    """Mean of the English and the Chinese half (LongText-Bench)."""
    return (english + chinese) / 2


def total_human_preference(pass_rates: Mapping[str, float]) -> float:
    """Expected number of passed dimensions out of the first six; pass rates in percent, knowledge is not counted."""
    return sum(pass_rates[name] for name in HUMAN_DIMENSIONS[:6]) / 100
