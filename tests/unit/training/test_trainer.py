"""What a training run does when all is well, when it is stopped, and when something breaks."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from tiny_run import CONFIG, Recorder, TinyBatch, TinyLoader, TinyMethod, build, same, weights

from imagewright.training.checkpoint import CheckpointError
from imagewright.training.guard import TrainingDivergedError
from imagewright.training.interruption import EXIT_INTERRUPTED, TrainingInterrupted


class Kill(BaseException):
    """Stands for kill -9 at a step boundary; the real one is in benchmarks/training_kill.py."""


def killer(at: int) -> Recorder:
    class Killer(Recorder):
        def after_step(self, report: object) -> None:
            super().after_step(report)  # type: ignore[arg-type]
            if len(self.reports) == at:
                raise Kill

    return Killer()


def gradients(cuts: tuple[int, ...]) -> dict[str, torch.Tensor]:
    method = TinyMethod(noise=0.0)
    loader = TinyLoader(32, cuts)
    for batch in loader.next_step():
        (method.train_step(batch, 0).losses["transformer"] * batch.num_samples / 32).backward()
    return {name: parameter.grad for name, parameter in method.network.named_parameters() if parameter.grad is not None}


def test_the_loss_falls_and_every_step_is_reported_once(tmp_path: Path) -> None:
    trainer, recorder = build(tmp_path, steps=60)
    result = trainer.fit()
    assert result.steps == 60
    assert [report.step for report in recorder.reports] == list(range(1, 61))
    assert recorder.reports[-1].loss < recorder.reports[0].loss / 2


@pytest.mark.parametrize("killed_at", [1, 3, 5, 8])
def test_a_killed_run_continues_bitwise_as_if_nothing_happened(tmp_path: Path, killed_at: int) -> None:
    whole, whole_recorder = build(tmp_path / "whole")
    whole.fit()
    with pytest.raises(Kill):
        build(tmp_path / "killed", recorder=killer(killed_at))[0].fit()
    resumed, recorder = build(tmp_path / "killed")
    result = resumed.fit()
    assert result.resumed_from == (killed_at - 1) // 3 * 3
    assert same(weights(whole), weights(resumed))
    assert [report.loss for report in recorder.reports] == [report.loss for report in whole_recorder.reports[result.resumed_from :]]
    assert [report.metrics for report in recorder.reports] == [report.metrics for report in whole_recorder.reports[result.resumed_from :]]


def test_a_finished_run_started_again_does_nothing(tmp_path: Path) -> None:
    build(tmp_path)[0].fit()
    again, recorder = build(tmp_path)
    assert again.fit().steps == 9
    assert recorder.reports == []


@pytest.mark.parametrize("cuts", [(8, 8, 8, 8), (5, 11, 16), (32,)])
def test_packing_and_accumulation_do_not_change_the_update(tmp_path: Path, cuts: tuple[int, ...]) -> None:
    one = build(tmp_path / "one", steps=1, method=TinyMethod(noise=0.0), loader=TinyLoader(32, (32,)))[0]
    cut = build(tmp_path / "cut", steps=1, method=TinyMethod(noise=0.0), loader=TinyLoader(32, cuts))[0]
    first, second = one.fit(), cut.fit()
    assert first.last_loss == pytest.approx(second.last_loss, rel=1e-6)
    for name, gradient in gradients((32,)).items():
        assert torch.allclose(gradient, gradients(cuts)[name], rtol=1e-5, atol=1e-6)


def test_sigterm_saves_and_exits_with_its_own_code_and_the_rest_is_bitwise_equal(tmp_path: Path) -> None:
    whole, _ = build(tmp_path / "whole")
    whole.fit()

    class Terminator(Recorder):
        def after_step(self, report: object) -> None:
            super().after_step(report)  # type: ignore[arg-type]
            if len(self.reports) == 4:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(TrainingInterrupted) as caught:
        build(tmp_path / "run", recorder=Terminator())[0].fit()
    assert caught.value.code == EXIT_INTERRUPTED
    assert caught.value.step == 5
    resumed, _ = build(tmp_path / "run")
    assert resumed.fit().resumed_from == 5
    assert same(weights(whole), weights(resumed))


def test_a_step_with_nan_is_skipped_and_told(tmp_path: Path) -> None:
    def fault(batch: TinyBatch) -> float:
        return float("nan") if batch.seeds[0] == 16 else 1.0

    trainer, recorder = build(tmp_path, method=TinyMethod(fault))
    result = trainer.fit()
    assert result.skipped_updates == 1
    assert "update_skipped" in recorder.names()
    assert not recorder.reports[2].applied
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights(trainer).values())


def test_a_spike_is_skipped(tmp_path: Path) -> None:
    def fault(batch: TinyBatch) -> float:
        return 1e6 if batch.seeds[0] == 8 * 30 else 1.0

    trainer, recorder = build(tmp_path, steps=40, method=TinyMethod(fault))
    assert trainer.fit().skipped_updates == 1
    assert any("recent median" in detail for _, detail in recorder.events)


def test_a_stretch_of_bad_data_rolls_back_and_is_not_seen_again(tmp_path: Path) -> None:
    bad = range(8 * 4, 8 * 7)

    def fault(batch: TinyBatch) -> float:
        return float("nan") if batch.seeds[0] in bad else 1.0

    config = CONFIG.model_copy(update={"max_skipped_steps": 2})
    trainer, recorder = build(tmp_path, method=TinyMethod(fault), config=config)
    result = trainer.fit()
    assert result.rollbacks == 1
    assert result.steps == 9
    seen = [report.metrics["tiny/first_seed"] for report in recorder.reports]
    assert len(seen) == len(set(seen))


def test_a_run_that_stays_bad_gives_up_and_says_why(tmp_path: Path) -> None:
    def fault(batch: TinyBatch) -> float:
        return float("nan") if batch.seeds[0] >= 8 * 4 else 1.0

    config = CONFIG.model_copy(update={"max_skipped_steps": 1, "max_rollbacks": 1})
    with pytest.raises(TrainingDivergedError, match="transformer/loss is nan, after 1 roll-backs"):
        build(tmp_path, method=TinyMethod(fault), config=config)[0].fit()


def test_a_run_that_starts_bad_says_that_there_is_nothing_to_roll_back_to(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"max_skipped_steps": 0})
    with pytest.raises(TrainingDivergedError, match="no checkpoint"):
        build(tmp_path, method=TinyMethod(lambda batch: float("inf")), config=config)[0].fit()


def test_a_full_disk_does_not_stop_training_and_the_last_good_checkpoint_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from imagewright.training import checkpoint

    write = checkpoint.write_tensors

    def full_disk(path: Path, tensors: dict[str, torch.Tensor]) -> None:
        if "step-00000006" in str(path):
            raise OSError(28, "No space left on device")
        write(path, tensors)

    monkeypatch.setattr(checkpoint, "write_tensors", full_disk)
    with pytest.raises(Kill):
        build(tmp_path, recorder=(recorder := killer(7)))[0].fit()
    assert "checkpoint_failed" in recorder.names()
    assert len(recorder.reports) == 7
    assert build(tmp_path)[0].fit().resumed_from == 3


def test_a_checkpoint_of_another_configuration_is_refused_by_name(tmp_path: Path) -> None:
    build(tmp_path, hidden_size=8, data="a")[0].fit()
    with pytest.raises(CheckpointError, match=r"checkpoint\.hidden_size: must be 16 as configured; received 8"):
        build(tmp_path, hidden_size=16, data="a")[0].fit()


def test_the_best_checkpoint_outlives_the_newest(tmp_path: Path) -> None:
    class Worsening(TinyMethod):
        def validate(self, step: int) -> dict[str, float]:
            return {"validation/loss": float(step)}

    trainer, _ = build(tmp_path, steps=15, method=Worsening())
    trainer.fit()
    assert trainer.checkpoints.steps() == [3, 12, 15]
    assert trainer.checkpoints.best() == (3, 3.0)
