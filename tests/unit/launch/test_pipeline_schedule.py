"""When a scheduled run starts, and what becomes of one that is due too early."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from imagewright.errors import InputError
from imagewright.launch.schedule import Concurrency, CronTrigger, RevisionTrigger, Scheduler

MIDNIGHT = datetime.datetime(2026, 11, 23, tzinfo=datetime.UTC)


def after(minutes: float) -> datetime.datetime:
    return MIDNIGHT + datetime.timedelta(minutes=minutes)


class HandRun:
    """A run that ends when told."""

    def __init__(self) -> None:
        self.code: int | None = None

    def result(self) -> int | None:
        return self.code

    def stop(self) -> None:
        self.code = 130


class Desk:
    """A scheduler every ten minutes, and every run it started."""

    def __init__(self, concurrency: Concurrency) -> None:
        self.runs: list[HandRun] = []
        self.said: list[str] = []
        self.scheduler = Scheduler(CronTrigger("*/10 * * * *", MIDNIGHT), self.start, concurrency, self.said.append)

    def start(self, reason: str) -> HandRun:
        self.runs.append(HandRun())
        return self.runs[-1]


def test_the_clock_strikes_once_just_at_its_time_and_not_before() -> None:
    trigger = CronTrigger("0 3 * * *", MIDNIGHT)
    assert trigger.due(after(179.99)) == ""
    assert trigger.due(after(180)) == "it is 2026-11-23 03:00"
    assert trigger.due(after(180.01)) == ""
    assert trigger.due(after(180 + 3 * 1440)) == "it is 2026-11-26 03:00"
    assert trigger.due(after(181 + 3 * 1440)) == ""


@pytest.mark.parametrize("expression", ["", "* * * *", "61 * * * *", "soon", "0 0 31 2 *"])
def test_what_is_no_time_is_refused(expression: str) -> None:
    with pytest.raises(InputError, match="is not a time in cron syntax"):
        CronTrigger(expression, MIDNIGHT)


def test_a_queued_run_starts_when_the_one_before_has_ended() -> None:
    desk = Desk(Concurrency.queue)
    for minutes in (10, 20, 30):
        desk.scheduler.tick(after(minutes))
    assert len(desk.runs) == 1
    desk.runs[0].code = 1
    desk.scheduler.tick(after(31))
    assert len(desk.runs) == 2
    desk.runs[1].code = 0
    desk.scheduler.tick(after(32))
    assert len(desk.runs) == 2
    assert "the run failed with exit code 1; imagewright status says why" in desk.said


def test_a_refused_run_never_starts() -> None:
    desk = Desk(Concurrency.refuse)
    desk.scheduler.tick(after(10))
    desk.scheduler.tick(after(20))
    desk.runs[0].code = 0
    desk.scheduler.tick(after(21))
    assert len(desk.runs) == 1
    desk.scheduler.tick(after(30))
    assert len(desk.runs) == 2


def test_a_replacing_run_ends_the_one_before() -> None:
    desk = Desk(Concurrency.replace)
    desk.scheduler.tick(after(10))
    desk.scheduler.tick(after(20))
    assert [run.code for run in desk.runs] == [130, None]
    desk.scheduler.close()
    assert desk.runs[1].code == 130


def test_a_new_revision_counts_once_also_when_it_came_while_nobody_looked(tmp_path: Path) -> None:
    revisions = [""]
    memory = tmp_path / "schedules" / "nightly.json"

    def look() -> str:
        return RevisionTrigger(lambda: revisions[-1], memory).due(MIDNIGHT)

    assert look() == ""
    revisions.append("latents@v1")
    assert [look(), look()] == ["", ""]
    revisions.append("latents@v2")
    assert [look(), look()] == ["latents@v2 is new", ""]
