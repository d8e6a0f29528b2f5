"""The debug graph through kfp's DockerRunner: done by records, failed steps said to have failed, killed and cancelled runs continued."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from e2e.test_debug_graph import ALWAYS, Laptop

from containers.engine import Engine

pytestmark = [pytest.mark.containers, pytest.mark.timeout(7200)]
SMALL = ("run", "data_curation", "--on", "docker", "--until", "ingest-raw")


class Boxed(Laptop):
    """An empty home whose steps run in containers: of an ordinary user where the tests are root's."""

    def __init__(self, home: Path, engine: Engine) -> None:
        super().__init__(home)
        self.engine = engine
        self.environ |= engine.environment
        self.user = ("--set", "docker.user=10001:10001") if os.getuid() == 0 else ()

    def containers(self, run: str) -> list[str]:
        return self.engine.call("ps", "--quiet", "--filter", f"label=imagewright.run={run}").stdout.split()

    def state(self, run: str) -> dict[str, object]:
        path = self.home / "runs" / run / "state.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}


def wait_for(ready: Callable[[], bool], seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def boxed(images: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boxed]:
    before = os.umask(0)  # root's folders must be writable by the user in the containers
    made = Boxed(tmp_path_factory.mktemp("home"), images)
    yield made
    made.call("down")
    os.umask(before)


@pytest.fixture(scope="module")
def finished(boxed: Boxed) -> Boxed:
    started = time.monotonic()
    print(boxed.call("run", "end_to_end", "--on", "docker", "--name", "boxed", *boxed.user))
    print(f"debug graph in containers: {time.monotonic() - started:.0f} s")
    return boxed


def test_the_whole_graph_runs_in_containers(finished: Boxed) -> None:
    steps = finished.steps("boxed")
    assert {step["status"] for step in steps.values()} == {"done"}
    assert (finished.home / "runs" / "boxed" / "report.html").stat().st_size < 5_000_000
    digest = json.loads((finished.home / "runs" / "boxed" / "run.json").read_text())["container"]["digest"]
    receipts = [json.loads(path.read_text()) for path in (finished.home / "runs" / "boxed" / "receipts").iterdir()]
    assert {record["job"] for record in receipts} == steps.keys()
    assert {record["image_digest"] for record in receipts} == {digest}
    wrote = {path.stat().st_uid for path in (finished.home / "runs" / "boxed" / "steps").iterdir()}
    assert wrote == {10001 if finished.user else os.getuid()}
    assert "docker" in finished.call("runs")


def test_a_step_that_fails_is_reported_though_its_runner_claims_success(finished: Boxed) -> None:
    out = finished.call(
        "run", "end_to_end", "--on", "docker", "--name", "refused", "--set", "vae.min_judged_accuracy=1.0", *finished.user, expect=1
    )
    steps = finished.steps("refused")
    assert "train-vae" in out
    assert (steps["train-vae"]["status"], steps["write-report"]["status"]) == ("failed", "done")
    assert "min_judged_accuracy" in steps["train-vae"]["detail"]
    assert "encode-latents" not in steps  # nothing after a failed step is tried
    assert finished.state("refused")["state"] == "failed"
    assert "failed" in finished.call("runs")


def test_a_second_run_finds_everything(finished: Boxed) -> None:
    finished.call("run", "end_to_end", "--on", "docker", "--name", "again", *finished.user)
    assert finished.done_in("again") == ALWAYS


def test_a_container_that_is_killed_fails_its_step_and_the_run_continues(boxed: Boxed) -> None:
    process = boxed.start(*SMALL, "--name", "killed", "--set", "seed=7", *boxed.user)
    wait_for(lambda: boxed.steps("killed").get("ingest-raw", {}).get("status") == "running")
    for container in boxed.containers("killed"):
        boxed.engine.call("kill", container)
    assert process.wait(300) == 1
    assert "ended without a record" in boxed.steps("killed")["ingest-raw"]["detail"]
    boxed.call("resume", "killed")
    assert boxed.steps("killed")["ingest-raw"]["status"] == "done"


def test_a_cancelled_run_leaves_no_container_and_continues(boxed: Boxed) -> None:
    process = boxed.start(*SMALL, "--name", "cancelled", "--set", "seed=8", *boxed.user)
    wait_for(lambda: boxed.steps("cancelled").get("ingest-raw", {}).get("status") == "running")
    assert "cancelled: cancelled" in boxed.call("cancel", "cancelled")
    assert process.wait(60) != 0
    wait_for(lambda: not boxed.containers("cancelled"), 60)
    boxed.call("resume", "cancelled")
    assert boxed.steps("cancelled")["ingest-raw"]["status"] == "done"


def test_containers_end_when_their_runner_is_killed(boxed: Boxed) -> None:
    boxed.start(*SMALL, "--name", "orphaned", "--set", "seed=9", *boxed.user)
    wait_for(lambda: boxed.steps("orphaned").get("ingest-raw", {}).get("status") == "running")
    assert boxed.containers("orphaned")
    os.kill(int(str(boxed.state("orphaned")["pid"])), 9)
    wait_for(lambda: not boxed.containers("orphaned"), 60)
    boxed.call("resume", "orphaned")
    assert boxed.steps("orphaned")["ingest-raw"]["status"] == "done"
