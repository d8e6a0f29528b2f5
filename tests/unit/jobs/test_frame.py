"""A job is done when its record and payload are in the store: run once, found again, never by two at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import imagewright.jobs
from imagewright.config import Config
from imagewright.errors import InputError
from imagewright.jobs.frame import derive_seed, is_gone, run_job, this_process
from imagewright.storage import open_store
from imagewright.storage.records import Record, read_record

FRUIT = """
from imagewright.jobs.job import Job, Outcome
JOB = Job(name="{name}", stage="test", kind="dataset", inputs={inputs}, sections=("threads",), keyed={keyed})
def run(context):
    with open({count!r}, "a") as file:
        file.write("ran\\n")
    {body}
    (context.output / "fruit.txt").write_text("{text}" + "".join(i.path.joinpath("fruit.txt").read_text() for i in context.inputs.values()))
    return Outcome(counts={{"num_fruits": 1}}, metrics={{"taste": 0.5}})
"""


class Orchard:
    """Real job modules in a folder that the jobs package also lists, and a local store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs = folder / "jobs"
        self.jobs.mkdir()
        self.environ = {
            "IMAGEWRIGHT_STORE_URL": f"file://{folder}/store",
            "IMAGEWRIGHT_WORK": str(folder / "work"),
            "IMAGEWRIGHT_RUN_FOLDER": str(folder / "run"),
            "IMAGEWRIGHT_PIPELINE_RUN": "test-run",
            "IMAGEWRIGHT_GIT_COMMIT": "c0ffee",
        }
        open_store(self.environ["IMAGEWRIGHT_STORE_URL"])

    def plant(self, name: str, text: str = "apple", inputs: tuple[str, ...] = (), keyed: bool = True, body: str = "pass") -> None:
        source = FRUIT.format(name=name, text=text, inputs=inputs, keyed=keyed, body=body, count=str(self.folder / f"{name}.count"))
        (self.jobs / f"{name.replace('-', '_')}.py").write_text(textwrap.dedent(source))
        sys.modules.pop(f"imagewright.jobs.{name.replace('-', '_')}", None)

    def run(self, name: str, inputs: dict[str, Record] | None = None, **environ: str) -> Record:
        return run_job(name, Config(threads=1), inputs or {}, self.folder / f"{name}.json", {**self.environ, **environ}).record

    def times_run(self, name: str) -> int:
        path = self.folder / f"{name}.count"
        return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture
def orchard(tmp_path: Path) -> Iterator[Orchard]:
    grown = Orchard(tmp_path)
    imagewright.jobs.__path__.append(str(grown.jobs))
    yield grown
    imagewright.jobs.__path__.remove(str(grown.jobs))


def test_a_job_runs_once_and_is_found_by_its_record(orchard: Orchard) -> None:
    orchard.plant("grow-apple")
    first = orchard.run("grow-apple")
    assert orchard.run("grow-apple") == first
    assert orchard.times_run("grow-apple") == 1
    assert read_record(orchard.folder / "grow-apple.json") == first
    assert (first.counts, first.metrics, first.git_commit) == ({"num_fruits": 1}, {"taste": 0.5}, "c0ffee")


def test_an_input_reaches_the_next_job_as_its_payload(orchard: Orchard) -> None:
    orchard.plant("grow-apple")
    orchard.plant("cook-jam", "jam of ", inputs=("apple",))
    jam = orchard.run("cook-jam", {"apple": orchard.run("grow-apple")})
    folder = orchard.folder / "out"
    open_store(orchard.environ["IMAGEWRIGHT_STORE_URL"]).get(jam.digest, folder)
    assert (folder / "fruit.txt").read_text() == "jam of apple"


def test_changed_code_changed_input_and_changed_image_run_again(orchard: Orchard) -> None:
    orchard.plant("grow-apple")
    orchard.plant("cook-jam", "jam of ", inputs=("apple",))
    before = orchard.run("cook-jam", {"apple": orchard.run("grow-apple")})
    orchard.plant("grow-apple", "pear")
    pear = orchard.run("grow-apple")
    after = orchard.run("cook-jam", {"apple": pear})
    assert after.action_key != before.action_key
    assert orchard.times_run("cook-jam") == 2
    orchard.run("cook-jam", {"apple": pear}, IMAGEWRIGHT_IMAGE="sha256:0123")
    assert orchard.times_run("cook-jam") == 3


def test_a_setting_that_the_job_does_not_read_changes_nothing(orchard: Orchard) -> None:
    orchard.plant("grow-apple")
    first = orchard.run("grow-apple")
    result = run_job("grow-apple", Config(threads=1, name="other"), {}, orchard.folder / "r.json", orchard.environ)
    assert result.cached
    assert result.record == first
    assert not run_job("grow-apple", Config(threads=2), {}, orchard.folder / "r.json", orchard.environ).cached
    assert not run_job("grow-apple", Config(threads=1, seed=1), {}, orchard.folder / "r.json", orchard.environ).cached


def test_a_deleted_payload_is_made_again(orchard: Orchard) -> None:
    orchard.plant("grow-apple")
    orchard.run("grow-apple")
    blobs = [path for path in (orchard.folder / "store").rglob("*") if path.is_file() and path.read_bytes() == b"apple"]
    assert blobs
    for blob in blobs:
        blob.unlink()
    orchard.run("grow-apple")
    assert orchard.times_run("grow-apple") == 2


def test_a_job_that_acts_on_the_outside_always_runs(orchard: Orchard) -> None:
    orchard.plant("tell-all", keyed=False)
    orchard.run("tell-all")
    orchard.run("tell-all")
    assert orchard.times_run("tell-all") == 2


def test_a_failed_job_leaves_no_record_and_says_why(orchard: Orchard) -> None:
    orchard.plant("grow-apple", body="raise RuntimeError('worm')")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="worm"):
            orchard.run("grow-apple")
    assert orchard.times_run("grow-apple") == 2
    assert not (orchard.folder / "grow-apple.json").exists()
    assert '"failed"' in (orchard.folder / "run" / "steps" / "grow-apple.json").read_text()


def test_missing_unknown_and_empty_inputs_are_refused_together(orchard: Orchard) -> None:
    orchard.plant("cook-jam", inputs=("apple", "sugar"))
    message = Record(job="tell", kind="none", digest="")
    with pytest.raises(InputError) as caught:
        orchard.run("cook-jam", {"sugar": message, "salt": message})
    assert {problem.key for problem in caught.value.problems} == {"input.apple", "input.sugar", "input.salt"}


def test_an_unknown_job_suggests_the_nearest(orchard: Orchard) -> None:
    orchard.plant("grow-apple")
    with pytest.raises(InputError, match="did you mean 'grow-apple'"):
        orchard.run("grow-aple")


def test_from_runs_again_and_demands_what_came_before(orchard: Orchard) -> None:
    orchard.plant("grow-apple")
    with pytest.raises(InputError, match="no earlier result"):
        orchard.run("grow-apple", IMAGEWRIGHT_REQUIRE_CACHED="grow-apple")
    orchard.run("grow-apple")
    orchard.run("grow-apple", IMAGEWRIGHT_REQUIRE_CACHED="grow-apple")
    orchard.run("grow-apple", IMAGEWRIGHT_FORCE_JOBS="grow-apple")
    assert orchard.times_run("grow-apple") == 2


def child(orchard: Orchard, name: str) -> subprocess.Popen[bytes]:
    code = f"""
import sys, imagewright.jobs
from pathlib import Path
imagewright.jobs.__path__.append({str(orchard.jobs)!r})
from imagewright.config import Config
from imagewright.jobs.frame import run_job
run_job({name!r}, Config(threads=1), {{}}, Path({str(orchard.folder)!r}) / f"{{sys.argv[1]}}.json")
"""
    return subprocess.Popen([sys.executable, "-c", code, str(time.monotonic_ns())], env={**os.environ, **orchard.environ})


def test_two_runners_of_one_job_have_one_writer(orchard: Orchard) -> None:
    orchard.plant("grow-apple", body="import time; time.sleep(1.0)")
    runners = [child(orchard, "grow-apple") for _ in range(3)]
    assert [runner.wait(60) for runner in runners] == [0, 0, 0]
    assert orchard.times_run("grow-apple") == 1


def test_after_a_kill_the_next_runner_continues_at_once(orchard: Orchard) -> None:
    flag = orchard.folder / "started"
    body = f"import pathlib, time; p = pathlib.Path({str(flag)!r}); first = not p.exists(); p.touch(); time.sleep(60 if first else 0)"
    orchard.plant("grow-apple", body=body)
    runner = child(orchard, "grow-apple")
    while not flag.exists():
        time.sleep(0.02)
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    started = time.monotonic()
    orchard.run("grow-apple")
    assert orchard.times_run("grow-apple") == 2
    assert time.monotonic() - started < 25  # the lease of a process that is gone is not waited for (its ttl is 30 s)


def test_the_owner_of_a_lease_is_known_to_be_alive_or_gone() -> None:
    host, pid, started = this_process().split(":")
    assert not is_gone(this_process())
    assert is_gone(f"{host}:{pid}:1.5")
    assert not is_gone(f"elsewhere:{pid}:{started}")
    machine = host.partition("/")[0]
    assert not is_gone(f"{machine}/1:{pid}:1.5")  # a container beside this one: its process of that number is another


def test_each_job_has_its_own_random_stream() -> None:
    assert derive_seed(0, "a") != derive_seed(0, "b") != derive_seed(1, "b")
    assert derive_seed(7, "pretrain-dit") == derive_seed(7, "pretrain-dit") < 2**31
