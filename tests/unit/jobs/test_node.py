"""A job on several nodes: the launching step keeps lookup and result, the first process publishes, the others take part."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import imagewright.jobs
from imagewright.config import Config
from imagewright.jobs.frame import JobResult, run_job
from imagewright.jobs.job import JobError
from imagewright.jobs.node import run_node
from imagewright.jobs.node_request import NodeRequest

CHOIR = """
import os
from imagewright.jobs.job import Job, Outcome
JOB = Job(name="choir", stage="test", kind="model", inputs={inputs}, sections=("threads",))
def run(context):
    with open(context.work / "sang", "a") as file:
        file.write(context.run.__class__.__name__ + " ".join(i.path.name[:4] for i in context.inputs.values()) + "\\n")
    if os.environ.get("RANK", "0") == "0":
        (context.output / "song.txt").write_text("la")
    return Outcome(counts={{"num_voices": 2}})
"""


class Stage:
    """A launching step whose TrainJob is two calls of `run_node`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch, self.launches = folder, monkeypatch, 0
        self.environ = {"IMAGEWRIGHT_STORE_URL": f"file://{folder}/store", "IMAGEWRIGHT_WORK": str(folder / "shared" / "work")}
        self.ranks = (0, 1)

    def launch(self, request: NodeRequest) -> None:
        self.launches += 1
        for rank in self.ranks:
            self.monkeypatch.setenv("RANK", str(rank))
            run_node(request.key, {**self.environ, "RANK": str(rank)}, wait=lambda seconds: None)

    def run(self, **environ: str) -> JobResult:
        return run_job("choir", Config(threads=1), {}, self.folder / "record.json", {**self.environ, **environ}, launch=self.launch)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    (tmp_path / "choir.py").write_text(CHOIR.format(inputs=()))
    imagewright.jobs.__path__.append(str(tmp_path))
    sys.modules.pop("imagewright.jobs.choir", None)
    yield Stage(tmp_path, monkeypatch)
    imagewright.jobs.__path__.remove(str(tmp_path))


def test_every_process_takes_part_and_the_first_one_publishes(stage: Stage) -> None:
    result = stage.run()
    assert (result.cached, result.record.counts) == (False, {"num_voices": 2})
    (sang,) = stage.folder.glob("shared/work/*/scratch/sang")
    assert len(sang.read_text().splitlines()) == 2
    assert stage.run().cached
    assert stage.launches == 1


def test_a_launcher_that_died_after_its_nodes_finds_what_they_made(stage: Stage) -> None:
    class Died(Exception):
        """The launcher's end."""

    whole = stage.launch

    def launch_and_die(request: NodeRequest) -> None:
        whole(request)
        raise Died

    stage.launch = launch_and_die  # type: ignore[method-assign]
    with pytest.raises(Died):
        stage.run()
    assert stage.run().record.counts == {"num_voices": 2}
    assert stage.launches == 1


def test_work_that_must_run_again_runs_again(stage: Stage) -> None:
    stage.run()
    assert not stage.run(IMAGEWRIGHT_FORCE_JOBS="choir").cached
    assert stage.launches == 2


def test_nodes_that_leave_nothing_are_an_error(stage: Stage) -> None:
    stage.ranks = ()
    with pytest.raises(JobError, match="the nodes ended well and left no result"):
        stage.run()


def test_a_node_without_a_request_says_who_starts_nodes(stage: Stage) -> None:
    with pytest.raises(JobError, match="finds no request"):
        run_node("0" * 64, stage.environ)
