"""Checkpoints copied to the store: found by a machine that has none, never in training's way."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest
from tiny_run import Recorder, build, same, weights

from imagewright.storage import open_store
from imagewright.storage.errors import StoreError
from imagewright.training.archive import ArchivePlace, CheckpointArchive
from imagewright.training.hooks import StepReport


class Killed(BaseException):
    """Stands for the end of a machine."""


class KilledAt(Recorder):
    """Dies after a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def after_step(self, report: StepReport) -> None:
        super().after_step(report)
        if report.step == self.step:
            raise Killed


def place(folder: Path) -> ArchivePlace:
    return ArchivePlace(open_store(f"file://{folder / 'store'}"), "key")


def break_store(folder: Path) -> None:
    """Puts a file where the store keeps its folders' trees: every further copy fails."""
    shutil.rmtree(folder / "store" / "trees", ignore_errors=True)
    (folder / "store").mkdir(exist_ok=True)
    (folder / "store" / "trees").write_text("in the way")


def test_a_machine_with_an_empty_work_folder_goes_on_bitwise(tmp_path: Path) -> None:
    whole, _ = build(tmp_path / "whole")
    whole.fit()
    first, _ = build(tmp_path / "first", recorder=KilledAt(8), archive=place(tmp_path))
    with pytest.raises(Killed):
        first.fit()
    assert first.archive is not None
    assert first.archive.wait(60)
    shutil.rmtree(tmp_path / "first")
    second, recorder = build(tmp_path / "second", archive=place(tmp_path))
    assert second.fit().resumed_from == 6
    assert recorder.names()[:2] == ["checkpoint_fetched", "resumed"]
    assert same(weights(second), weights(whole))


def test_a_newer_local_checkpoint_is_not_replaced_by_the_copy(tmp_path: Path) -> None:
    trainer, _ = build(tmp_path / "work", recorder=KilledAt(4), archive=place(tmp_path))
    with pytest.raises(Killed):
        trainer.fit()
    assert trainer.archive is not None
    assert trainer.archive.wait(60)
    further, _ = build(tmp_path / "work", recorder=KilledAt(8))
    with pytest.raises(Killed):
        further.fit()
    last, recorder = build(tmp_path / "work", archive=place(tmp_path))
    assert last.fit().resumed_from == 6
    assert "checkpoint_fetched" not in recorder.names()


def test_a_failing_store_is_an_event_and_training_goes_on(tmp_path: Path) -> None:
    break_store(tmp_path)
    trainer, recorder = build(tmp_path / "work", archive=place(tmp_path))
    assert trainer.fit().steps == 9
    assert trainer.archive is not None
    assert trainer.archive.wait(60)
    assert "checkpoint_copy_failed" in recorder.names()
    assert trainer.checkpoints.steps() == [6, 9]


def test_the_last_good_copy_stays_when_a_later_one_fails(tmp_path: Path) -> None:
    events: list[tuple[str, str]] = []
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "state.json").write_text("3")
    archive = CheckpointArchive(place(tmp_path), tmp_path / "staging", lambda name, detail: events.append((name, detail)))
    archive.offer(3, tmp_path / "checkpoint")
    assert archive.wait(60)
    kept = tmp_path / "trees"
    shutil.copytree(tmp_path / "store" / "trees", kept)
    break_store(tmp_path)
    archive.offer(6, tmp_path / "checkpoint")
    assert archive.wait(60)
    assert [name for name, _ in events] == ["checkpoint_copy_failed"]
    (tmp_path / "store" / "trees").unlink()
    shutil.copytree(kept, tmp_path / "store" / "trees")
    assert archive.fetch(tmp_path / "fetched", -1)
    assert (tmp_path / "fetched" / "step-00000003" / "state.json").read_text() == "3"


def test_an_unreadable_copy_stops_a_machine_that_has_nothing_else(tmp_path: Path) -> None:
    events: list[tuple[str, str]] = []
    place(tmp_path).store.put_named("checkpoints/key.json", b'{"step": 3, "digest": "%s"}' % (b"0" * 64))
    archive = CheckpointArchive(place(tmp_path), tmp_path / "staging", lambda name, detail: events.append((name, detail)))
    with pytest.raises(StoreError):
        archive.fetch(tmp_path / "work", -1)
    assert not archive.fetch(tmp_path / "work", 2)
    assert [name for name, _ in events] == ["checkpoint_fetch_failed"]


def test_offers_during_a_copy_replace_each_other_and_leave_nothing_behind(tmp_path: Path) -> None:
    gate = threading.Event()

    class Slow(CheckpointArchive):
        def copy(self, step: int, linked: Path) -> None:
            copied.append(step)
            gate.wait(60)
            super().copy(step, linked)

    copied: list[int] = []
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "state.json").write_text("{}")
    archive = Slow(place(tmp_path), tmp_path / "staging", lambda name, detail: None)
    archive.offer(1, tmp_path / "checkpoint")
    while not copied:
        gate.wait(0.01)
    for step in (2, 3, 4):
        archive.offer(step, tmp_path / "checkpoint")
    gate.set()
    assert archive.wait(60)
    assert copied == [1, 4]
    assert not list((tmp_path / "staging").iterdir())
