"""Which MLflow run a job logs into: the injected one, the one its tags find, or a new one; decided once, the same on every retry."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from imagewright.tracking.server import ServerRefusedError, TrackingServer

logger = logging.getLogger("imagewright.tracking")

DEFAULT_EXPERIMENT = "imagewright"
PARENT_TAG = "mlflow.parentRunId"


@dataclass(frozen=True)
class JobIdentity:
    """Everything that says which run this is. `task` is empty for the run of the pipeline itself.

    injected_run: the run Kubeflow made for this task (MLFLOW_RUN_ID). work: names the work folder, so that a job run without
    a pipeline finds its own unfinished run again and nobody else's.
    """

    task: str
    stage: str = ""
    recipe: str = ""
    data_rev: str = ""
    git_commit: str = ""
    image: str = ""
    pipeline_run: str = ""
    injected_run: str = ""
    config_digest: str = ""
    work: str = ""
    started_at_ms: int = 0
    settle_seconds: float = 0.5

    def find_tags(self) -> dict[str, str]:
        """The tags that find this run again."""
        if not self.task:
            return {"role": "pipeline", "pipeline_run": self.pipeline_run}
        if self.pipeline_run:
            return {"role": "job", "pipeline_run": self.pipeline_run, "task": self.task}
        return {"role": "job", "work": self.work, "task": self.task}

    def matches(self, tags: Mapping[str, str]) -> bool:
        """Whether a run with these tags has the same configuration. Jobs make their pipeline's run without knowing its configuration."""
        return not self.task or tags.get("config_digest", "") == self.config_digest

    def all_tags(self) -> dict[str, str]:
        """Every tag of a new run; empty ones are left out."""
        described = {name: str(getattr(self, name)) for name in ("stage", "recipe", "data_rev", "git_commit", "image", "config_digest")}
        return self.find_tags() | {name: value for name, value in described.items() if value}

    def headline_tags(self) -> dict[str, str]:
        """What the pipeline's own run shows of this job, so that MLflow's table compares pipeline runs."""
        shared = {"recipe": self.recipe, "git_commit": self.git_commit, "image": self.image}
        if self.data_rev:
            shared[f"data_rev.{self.stage or self.task}"] = self.data_rev
        return {name: value for name, value in shared.items() if value}

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Binding:
    """The MLflow runs an identity was resolved to; `parent` is empty for a job outside a pipeline."""

    run: str
    parent: str = ""


def digest_of_config(config: Mapping[str, Any]) -> str:
    """SHA-256 of the configuration as canonical JSON; empty for no configuration."""
    if not config:
        return ""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def resolve(server: TrackingServer, identity: JobIdentity) -> Binding:
    """Finds or makes the runs of `identity`. Raises ServerDownError; calling again then is safe."""
    if identity.injected_run:
        try:
            return join_injected(server, identity)
        except ServerRefusedError as error:
            logger.warning("MLFLOW_RUN_ID %s cannot be joined (%s); this job gets a run of its own", identity.injected_run, error)
    experiment = server.experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", DEFAULT_EXPERIMENT))
    parent = ""
    if identity.task and identity.pipeline_run:
        pipeline = JobIdentity("", pipeline_run=identity.pipeline_run, started_at_ms=identity.started_at_ms)
        parent = find_or_create(server, experiment, pipeline, "")
    return Binding(find_or_create(server, experiment, identity, parent), parent)


def join_injected(server: TrackingServer, identity: JobIdentity) -> Binding:
    """The run Kubeflow made; a nested one below its parent when that run already holds another configuration."""
    run = server.get_run(identity.injected_run)
    tags = tags_of(run)
    parent = tags.get(PARENT_TAG, "")
    if tags.get("config_digest", identity.config_digest) != identity.config_digest:
        new = create(server, run["info"]["experiment_id"], identity, parent or identity.injected_run, identity.injected_run)
        return Binding(new, parent)
    server.log_batch(identity.injected_run, tags=identity.all_tags())
    return Binding(identity.injected_run, parent)


def find_or_create(server: TrackingServer, experiment: str, identity: JobIdentity, parent: str) -> str:
    """The run with these tags and this configuration. One with another configuration is left as it is and named in `resumed_from`."""
    found = candidates(server, experiment, identity)
    same = [run for run in found if identity.matches(tags_of(run))]
    if same:
        chosen = choose(same)
        if not is_settled(chosen):  # its maker, or a rival of its maker, may still step back from it
            return settle(server, experiment, identity, str(chosen["info"]["run_id"]))
        if chosen["info"]["status"] != "RUNNING" and identity.task:
            server.call("POST", "runs/update", {"run_id": chosen["info"]["run_id"], "status": "RUNNING"})
        return str(chosen["info"]["run_id"])
    earlier = str(found[-1]["info"]["run_id"]) if found else ""
    mine = create(server, experiment, identity, parent, earlier)
    return settle(server, experiment, identity, mine, created=True)


def candidates(server: TrackingServer, experiment: str, identity: JobIdentity) -> list[dict[str, Any]]:
    """Runs with the identity's tags, oldest first. Outside a pipeline only unfinished ones: doing a job twice makes two runs."""
    found = server.search_runs(experiment, identity.find_tags())
    if identity.task and not identity.pipeline_run:
        found = [run for run in found if run["info"]["status"] == "RUNNING"]
    return found


def create(server: TrackingServer, experiment: str, identity: JobIdentity, parent: str, resumed_from: str) -> str:
    tags = identity.all_tags()
    if parent:
        tags[PARENT_TAG] = parent
    if resumed_from:
        tags["resumed_from"] = resumed_from
    return server.create_run(experiment, identity.task or identity.pipeline_run, tags, identity.started_at_ms)


def settle(server: TrackingServer, experiment: str, identity: JobIdentity, mine: str, created: bool = False) -> str:
    """Looks again after a pause, and of several processes that created the same run at once all but one step back.

    MLflow has no unique tags, so everybody waits until the others' creation is visible, then all choose by the same order.
    A run already chosen by somebody is marked and wins over the order.
    """
    time.sleep(identity.settle_seconds)
    rivals = [run for run in candidates(server, experiment, identity) if identity.matches(tags_of(run))]
    chosen = choose(rivals) if rivals else None
    run_id = str(chosen["info"]["run_id"]) if chosen else mine
    if chosen is None or not is_settled(chosen):
        server.log_batch(run_id, tags={"settled": "1"})
    if created and run_id != mine:
        server.delete_run(mine)
    return run_id


def choose(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The run everybody picks from the same list."""
    return min(runs, key=lambda run: (not is_settled(run), int(run["info"]["start_time"]), run["info"]["run_id"]))


def is_settled(run: Mapping[str, Any]) -> bool:
    return tags_of(run).get("settled") == "1"


def tags_of(run: Mapping[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run.get("data", {}).get("tags", [])}
