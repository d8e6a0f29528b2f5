"""The contract between a job module and the frame that runs it.

A job module holds `JOB: Job` and `run(context: JobContext) -> Outcome`; it imports nothing heavy at module scope,
so that the frame can find an earlier result before torch or mlflow is loaded.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from imagewright.errors import InputError, Problem

if TYPE_CHECKING:
    from rich.console import Console

    from imagewright.config import Config
    from imagewright.storage import Store
    from imagewright.storage.records import PayloadKind, Record
    from imagewright.tracking.job_run import JobRun


# Modules of this package that are the frame itself; every other one is a job.
FRAME_MODULES = frozenset(
    {
        "action",
        "action_entry",
        "champions",
        "code_digest",
        "component",
        "dataset_revision",
        "environment",
        "frame",
        "job",
        "lease_owner",
        "model_version",
        "node",
        "node_request",
        "parent_watch",
        "ranks",
        "state",
    }
)


class JobError(InputError):
    """A job called with the wrong inputs, or one that cannot start."""


@dataclass(frozen=True)
class Job:
    """What a job is called, reads and makes."""

    name: str
    """CLI verb: `imagewright job NAME`; the module is NAME with underscores."""
    stage: str
    """Stage of the data flow; the MLflow tag `stage`."""
    kind: PayloadKind
    """What its payload is; datasets are stored in DVC's layout."""
    dataset: str = ""
    """Name under which the data registry keeps its payloads as revisions; every job of kind dataset has one."""
    model: str = ""
    """Lineage under which the model registry keeps its payloads as versions; empty where another job registers them."""
    inputs: tuple[str, ...] = ()
    optional_inputs: tuple[str, ...] = ()
    implied: Callable[[Config, Store], Mapping[str, Record]] | None = None
    """Optional inputs the job finds for itself when they are not given, such as a champion; found first, so they are part of the key."""
    sections: tuple[str, ...] = ()
    """Fields of Config the job reads. Only these are part of its action key."""
    keyed: bool = True
    """False for jobs that act on the outside (promote, report) and therefore always run."""
    distributed: bool = False
    """True for jobs whose body runs in every process torchrun starts; the others refuse to be started so."""


@dataclass(frozen=True)
class JobInput:
    """One input: its record, and its payload on disk once something asks for it."""

    record: Record
    fetch: Callable[[Record], Path]

    @cached_property
    def path(self) -> Path:
        """Local folder (or file) of the verified payload; downloaded on first use."""
        return self.fetch(self.record)


@dataclass(frozen=True)
class JobContext:
    """Everything a job may touch."""

    config: Config
    inputs: Mapping[str, JobInput]
    work: Path
    """Scratch folder of this action key; a killed job finds its own files here again."""
    output: Path
    """Empty folder to fill; it becomes the payload."""
    run: JobRun
    store: Store
    seed: int
    """Derived from config.seed and the job's name."""
    console: Console
    pipeline_run: str = ""
    """Id of the pipeline run this job belongs to; its other records lie in the store under `runs/<id>/<job>.json`."""

    archive: str = ""
    """Name under which checkpoints are copied to the store, the action key; empty keeps them in `work` alone."""

    def input_path(self, name: str) -> Path:
        """Payload folder of a required input."""
        return self.inputs[name].path

    def optional_path(self, name: str, folder: str) -> Path | None:
        """`folder` of an optional input's payload; None without that input."""
        return self.inputs[name].path / folder if name in self.inputs else None


@dataclass(frozen=True)
class Outcome:
    """What a job says about its payload."""

    counts: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    report: Path | None = None
    """HTML file shown in the Kubeflow UI and logged to MLflow."""
    skipped: str = ""
    """Why there was nothing to do; the record then names the payload of `passes_on`."""
    passes_on: str = ""
    """Name of the input whose payload a skipped job hands on."""
    revision: str = ""
    """`name@version` when the job registered a model; revisions of datasets are the frame's."""


def job_modules() -> dict[str, str]:
    """Job name -> module name, found by listing this package (nothing is imported)."""
    package = importlib.import_module("imagewright.jobs")
    names = [module.name for module in pkgutil.iter_modules(package.__path__) if module.name not in FRAME_MODULES]
    return {name.replace("_", "-"): f"imagewright.jobs.{name}" for name in sorted(names)}


def load_job(name: str) -> tuple[Job, ModuleType]:
    """Imports the module of one job. Raises JobError with the nearest name when there is none."""
    modules = job_modules()
    if name not in modules:
        nearest = difflib.get_close_matches(name, modules, n=1)
        fix = f"did you mean {nearest[0]!r}?" if nearest else f"jobs: {', '.join(modules)}"
        raise JobError(Problem("job", "no job has this name", name, fix))
    module = importlib.import_module(modules[name])
    job: Job = module.JOB
    assert job.name == name, f"{modules[name]} declares the job {job.name!r}"
    return job, module
