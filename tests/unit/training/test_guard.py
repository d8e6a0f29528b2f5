"""When an update is skipped, when the run rolls back, when it gives up."""

from __future__ import annotations

import pytest

from imagewright.config.training import TrainingConfig
from imagewright.training.guard import Guard, TrainingDivergedError, Verdict

CONFIG = TrainingConfig(spike_factor=4.0, spike_window_steps=8, max_skipped_steps=2, max_rollbacks=1)


def warm(config: TrainingConfig = CONFIG) -> Guard:
    guard = Guard(config)
    for _ in range(8):
        assert guard.judge({"loss": 1.0}) is Verdict.APPLY
    return guard


def test_a_value_at_the_limit_is_applied_and_one_above_is_a_spike() -> None:
    assert warm().judge({"loss": 4.0}) is Verdict.APPLY
    assert warm().judge({"loss": 4.001}) is Verdict.SKIP


def test_nothing_is_a_spike_before_the_window_is_a_quarter_full() -> None:
    guard = Guard(CONFIG)
    guard.judge({"loss": 1.0})
    assert guard.judge({"loss": 100.0}) is Verdict.APPLY
    assert guard.judge({"loss": 1e6}) is Verdict.SKIP


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_skipped_from_the_first_step(value: float) -> None:
    assert Guard(CONFIG).judge({"loss": 1.0, "grad_norm": value}) is Verdict.SKIP


def test_spike_factor_zero_checks_for_nan_only() -> None:
    guard = warm(CONFIG.model_copy(update={"spike_factor": 0.0}))
    assert guard.judge({"loss": 1e9}) is Verdict.APPLY
    assert guard.judge({"loss": float("nan")}) is Verdict.SKIP


def test_one_skip_more_than_allowed_rolls_back_and_one_roll_back_more_gives_up() -> None:
    guard = warm()
    assert [guard.judge({"loss": 9.0}) for _ in range(3)] == [Verdict.SKIP, Verdict.SKIP, Verdict.ROLL_BACK]
    assert [guard.judge({"loss": 9.0}) for _ in range(2)] == [Verdict.SKIP, Verdict.SKIP]
    with pytest.raises(TrainingDivergedError, match="loss 9 exceeds 4 times its recent median 1"):
        guard.judge({"loss": 9.0})


def test_a_good_step_forgives_the_skips_before_it() -> None:
    guard = warm()
    for _ in range(5):
        guard.judge({"loss": 9.0})
        guard.judge({"loss": 9.0})
        assert guard.judge({"loss": 1.0}) is Verdict.APPLY
    assert guard.rollbacks == 0


def test_a_resumed_guard_judges_alike() -> None:
    guard = warm()
    guard.judge({"loss": 9.0})
    resumed = Guard(CONFIG)
    resumed.load_state(guard.state())
    assert [resumed.judge({"loss": 9.0}) for _ in range(2)] == [Verdict.SKIP, Verdict.ROLL_BACK]
