"""Benchmark totals against the numbers their papers print."""

from __future__ import annotations

import pytest

from imagewright.evaluation.formulas import (
    GENEVAL_TASKS,
    HUMAN_DIMENSIONS,
    ONEIG_DIMENSIONS,
    geneval_overall,
    longtext_overall,
    oneig_overall,
    total_human_preference,
)

GENEVAL = {
    "ERNIE-Image": ((1.0, 0.9596, 0.7781, 0.9282, 0.8550, 0.7925), 0.8856),
    "ERNIE-Image enhanced": ((0.9906, 0.9596, 0.8187, 0.8830, 0.8625, 0.7225), 0.8728),
    "ERNIE-Image-Turbo": ((1.0, 0.9621, 0.7906, 0.9202, 0.7975, 0.7300), 0.8667),
    "ERNIE-Image-Turbo enhanced": ((0.9938, 0.9419, 0.8375, 0.8351, 0.7950, 0.7025), 0.8510),
    "FLUX.2-klein-9B": ((0.9313, 0.9571, 0.8281, 0.9149, 0.7175, 0.7400), 0.8481),
}
ONEIG = {
    "ERNIE-Image enhanced EN": ((0.8678, 0.9788, 0.3566, 0.4309, 0.2411), 0.5750),
    "ERNIE-Image EN": ((0.8909, 0.9668, 0.2950, 0.4471, 0.1687), 0.5537),
    "Turbo enhanced EN": ((0.8676, 0.9666, 0.3537, 0.4191, 0.2212), 0.5656),
    "ERNIE-Image enhanced ZH": ((0.8299, 0.9539, 0.3056, 0.4342, 0.2478), 0.5543),
    "Turbo ZH": ((0.8326, 0.9086, 0.2580, 0.4002, 0.1316), 0.5062),
}
HUMAN = {
    "Nano Banana 2.0": ((95.54, 98.51, 95.24, 91.37, 90.77, 67.86, 99.40), 5.39),
    "ERNIE-Image": ((89.88, 94.05, 92.56, 83.04, 84.82, 62.80, 95.24), 5.07),
    "Seedream 5.0": ((90.48, 97.32, 91.96, 80.65, 81.55, 61.01, 97.02), 5.03),
    "Wan2.7-Image": ((88.39, 93.45, 90.18, 81.25, 83.33, 59.82, 95.24), 4.96),
    "ERNIE-Image-Turbo": ((83.33, 90.18, 83.63, 75.60, 74.70, 57.14, 94.64), 4.65),
    "Qwen-Image": ((81.85, 87.20, 81.55, 72.02, 72.32, 57.44, 90.48), 4.52),
}


@pytest.mark.parametrize("model", GENEVAL)
def test_geneval_overall_is_the_printed_one(model: str) -> None:
    tasks, printed = GENEVAL[model]
    assert geneval_overall(dict(zip(GENEVAL_TASKS, tasks, strict=True))) == pytest.approx(printed, abs=6e-5)


@pytest.mark.parametrize("model", ONEIG)
def test_oneig_overall_is_the_printed_one(model: str) -> None:
    dimensions, printed = ONEIG[model]
    assert oneig_overall(dict(zip(ONEIG_DIMENSIONS, dimensions, strict=True))) == pytest.approx(printed, abs=6e-5)


@pytest.mark.parametrize("model", HUMAN)
def test_total_human_preference_is_the_printed_one(model: str) -> None:
    rates, printed = HUMAN[model]
    assert total_human_preference(dict(zip(HUMAN_DIMENSIONS, rates, strict=True))) == pytest.approx(printed, abs=6e-3)


def test_one_printed_total_does_not_follow_from_its_row() -> None:
    rates = dict(zip(HUMAN_DIMENSIONS, (81.25, 87.20, 79.46, 76.19, 78.87, 55.36, 89.29), strict=True))
    assert total_human_preference(rates) == pytest.approx(4.58, abs=6e-3)  # Z-Image-Turbo; the report prints 4.56


@pytest.mark.parametrize(("english", "chinese", "printed"), [(0.9804, 0.9661, 0.9733), (0.9679, 0.9594, 0.9636), (0.9524, 0.9788, 0.9656)])
def test_longtext_overall_is_the_printed_one(english: float, chinese: float, printed: float) -> None:
    assert longtext_overall(english, chinese) == pytest.approx(printed, abs=6e-5)
