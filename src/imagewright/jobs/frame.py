"""The frame around every job: key, lookup, lease, run, publish, record.

Whether a job is done is decided by records in the store, never by a runner's status. The lookup comes before
torch or mlflow is imported, so a cached step costs a few round trips.
"""

from __future__ import annotations

import datetime
import fcntl
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rich.console import Console

from imagewright.errors import InputError, Problem
from imagewright.jobs.action import action_key, check_inputs, sections_of
from imagewright.jobs.action_entry import ActionEntry, report_damage
from imagewright.jobs.dataset_revision import DatasetCommit
from imagewright.jobs.environment import JobEnvironment, read_environment
from imagewright.jobs.job import Job, JobContext, JobError, JobInput, Outcome, load_job
from imagewright.jobs.lease_owner import is_gone, this_process
from imagewright.jobs.model_version import ModelRegistration
from imagewright.jobs.node_request import NodeRequest, find_result, forget_result, read_result, write_request
from imagewright.jobs.ranks import check_distributed, hear_decision, is_follower, own_output, tell_followers
from imagewright.jobs.state import StepState
from imagewright.storage import Lease, Store, store_from_environment
from imagewright.storage.errors import PayloadChanged
from imagewright.storage.records import Record, write_record

if TYPE_CHECKING:
    from imagewright.config import Config
    from imagewright.tracking.job_run import JobRun

LEASE_SECONDS = 30.0


@dataclass(frozen=True)
class JobResult:
    """What the caller of a job learns."""

    record: Record
    cached: bool
    report: Path | None = None


Launch = Callable[[NodeRequest], None]
"""Runs the body of a job elsewhere, on the nodes of a TrainJob; returns when its record lies in the store."""


def run_job(
    name: str,
    config: Config,
    inputs: Mapping[str, Record],
    output: Path,
    environ: Mapping[str, str] = os.environ,
    launch: Launch | None = None,
) -> JobResult:
    """Runs one job, or returns its earlier record, and writes the record to `output`.

    launch: where the body runs when not in this process; lookup, lease and the final entry stay here.

    Raises JobError for wrong inputs; errors of the job itself pass through unchanged after they are noted in the step's state.
    """
    started = time.monotonic()
    environment = read_environment(environ)
    follows = is_follower(environ)
    with StepState(None if follows else environment.run_folder, name) as state:
        job, module = load_job(name)
        check_inputs(job, inputs)
        check_distributed(job, environ)
        store = store_from_environment(environ)
        if job.implied is not None:
            inputs = {**job.implied(config, store), **inputs}
        index_file = environment.work_root.parent / "imports.json"
        key = action_key(job, config, inputs, source_file(module), environment.image_digest, index_file) if job.keyed else ""
        frame = Frame(job, module, config, inputs, environment, store, key, state, launch)
        if follows:
            return frame.follow()
        result = frame.find_or_run()
        if environment.pipeline_run:
            store.put_named(f"runs/{environment.pipeline_run}/{name}.json", result.record.model_dump_json().encode())
        state.finish("cached" if result.cached else "done", result.record, time.monotonic() - started)
        write_record(result.record, output)
        return result


@dataclass(frozen=True)
class Frame:
    """One execution of one job."""

    job: Job
    module: ModuleType
    config: Config
    inputs: Mapping[str, Record]
    environment: JobEnvironment
    store: Store
    key: str
    state: StepState
    launch: Launch | None = None

    @property
    def entry(self) -> ActionEntry:
        """The result of this key in the store."""
        return ActionEntry(self.store, self.key)

    def find_or_run(self) -> JobResult:
        """The earlier result if there is one; otherwise runs, as the only writer when the job has a key."""
        earlier = None if self.force else self.entry.find()
        if earlier is not None:
            return self.found(earlier)
        if self.job.keyed and self.job.name in self.environment.require_cached:
            # `--from S` promises that nothing before S runs: a miss there is an error, not a silent hour of work.
            raise JobError(
                Problem(f"job.{self.job.name}", "has no earlier result to start from", self.key, "start from this stage or an earlier one")
            )
        return self.run_under_lease() if self.key else self.run()

    @property
    def force(self) -> bool:
        """True when this job must run again (`--from` this job or one before it)."""
        return self.job.name in self.environment.force_jobs

    def run_under_lease(self) -> JobResult:
        """Runs as the only writer of this key; a second runner waits and takes the first one's result."""
        self.state.write("waiting", detail="for the lease of this job", key=self.key)
        with Lease(self.store, self.key, this_process(), LEASE_SECONDS, is_abandoned=is_gone) as lease:
            # Someone may have finished between our lookup and our lease.
            earlier = None if self.force else self.entry.find()
            return self.found(earlier) if earlier else self.run(lease)

    def found(self, earlier: Record) -> JobResult:
        """An earlier result; the processes that wait to train with this one learn that there is nothing to do.

        A payload that was made without a registry, or whose commit failed, gets its name now.
        """
        tell_followers(starts=False)
        record = self.named(earlier)
        if record != earlier:
            self.entry.replace(earlier, record)
        return JobResult(record, cached=True)

    def follow(self) -> JobResult:
        """Runs the body beside the first process, which alone holds the lease, publishes, records and tracks."""
        from imagewright.tracking.job_run import NullRun

        if not hear_decision():
            earlier = self.entry.find()
            assert earlier is not None, "the first process found a result"
            return JobResult(earlier, cached=True)
        fix_threads(self.config.threads)
        output = own_output(self.work)
        try:
            self.module.run(self.context(output, NullRun()))
        finally:
            shutil.rmtree(output, ignore_errors=True)
        return JobResult(Record(job=self.job.name, kind=self.job.kind, digest="", action_key=self.key), cached=False)

    def run(self, lease: Lease | None = None) -> JobResult:
        """Runs the job's body, here or on its nodes, and makes its record the result of this key."""
        self.commit.check()
        self.state.write("running", key=self.key)
        result = self.run_body(lease) if self.launch is None else self.run_elsewhere(self.launch)
        if lease is not None:
            lease.check()
        self.entry.write(result.record)
        return result

    def run_elsewhere(self, launch: Launch) -> JobResult:
        """Leaves what the nodes need in the store, waits for them, and takes the record their first process left there."""
        request = NodeRequest(
            job=self.job.name,
            key=self.key,
            config=self.config,
            inputs=dict(self.inputs),
            pipeline_run=self.environment.pipeline_run,
            image_digest=self.environment.image_digest,
            git_commit=self.environment.git_commit,
        )
        if self.force or self.entry.damaged():
            forget_result(self.store, self.key)
        if find_result(self.store, self.key) is None:  # an earlier launcher may have died after its nodes had finished
            write_request(self.store, request)
            launch(request)
        return JobResult(read_result(self.store, self.key), cached=False)

    def run_body(self, lease: Lease | None = None) -> JobResult:
        """Runs the job's body in this process and publishes its payload and record; the action entry is the caller's."""
        started = time.monotonic()
        fix_threads(self.config.threads)
        work = self.work
        output = work / "output"
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir(parents=True)
        tell_followers(starts=True)
        with self.open_run(work) as run:
            outcome: Outcome = self.module.run(self.context(output, run))
            if lease is not None:
                lease.check()  # a lost lease means another writer: nothing of ours may be published
            record = self.committed(self.publish(outcome, output, time.monotonic() - started))
            self.log_outcome(run, record, outcome)
            if outcome.report is not None and self.environment.run_folder is not None:
                shutil.copyfile(outcome.report, self.environment.run_folder / outcome.report.name)
        return JobResult(record, cached=False, report=outcome.report)

    @cached_property
    def work(self) -> Path:
        """Folder of this action on this machine."""
        return self.environment.work_root / (self.key or f"{self.job.name}-{uuid.uuid4().hex[:12]}")

    def context(self, output: Path, run: JobRun) -> JobContext:
        """What the job's body sees."""
        scratch = self.work / "scratch"
        scratch.mkdir(parents=True, exist_ok=True)
        return JobContext(
            config=self.config,
            inputs={name: JobInput(record, self.fetch) for name, record in self.inputs.items()},
            work=scratch,
            output=output,
            run=run,
            store=self.store,
            seed=derive_seed(self.config.seed, self.job.name),
            console=Console(stderr=True),
            pipeline_run=self.environment.pipeline_run,
            archive=self.key,
        )

    def publish(self, outcome: Outcome, output: Path, wall_seconds: float) -> Record:
        """Stores the payload and returns its record; a skipped job hands on its input's payload and the name it has."""
        revision = outcome.revision
        if outcome.skipped:
            source = self.inputs[outcome.passes_on]
            digest, size_bytes, revision = source.digest, source.size_bytes, source.revision
        elif self.job.kind == "none":
            digest, size_bytes = "", 0
        else:
            assert any(output.iterdir()), f"job {self.job.name} wrote no payload"
            digest = self.entry.put_folder(output, dvc_layout=self.job.kind == "dataset")
            size_bytes = self.store.size_bytes(digest)
        return Record(
            job=self.job.name,
            kind=self.job.kind,
            digest=digest,
            size_bytes=size_bytes,
            action_key=self.key,
            inputs={name: record.digest for name, record in sorted(self.inputs.items())},
            config=sections_of(self.job, self.config),
            git_commit=self.environment.git_commit,
            image_digest=self.environment.image_digest,
            counts=dict(outcome.counts),
            metrics=dict(outcome.metrics),
            revision=revision,
            skipped=outcome.skipped,
            wall_seconds=round(wall_seconds, 3),
            created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )

    @property
    def commit(self) -> DatasetCommit:
        """How this job's payload gets its revision in the data registry."""
        return DatasetCommit(self.job, self.config.name, self.inputs, self.environment, self.store)

    def named(self, record: Record) -> Record:
        """The record with the revision of the data registry, or the version of the model registry, that holds its payload."""
        registration = ModelRegistration(self.job, self.config.name, self.inputs, self.environment)
        return registration.registered(self.commit.revised(record))

    def committed(self, record: Record) -> Record:
        """The record with its name. When the commit fails the work is kept as done: the next attempt only commits."""
        try:
            return self.named(record)
        except InputError:
            self.entry.write(record)
            raise

    def fetch(self, record: Record) -> Path:
        """Downloads a payload once per machine; later jobs find it in the cache beside the work folders.

        Raises JobError for one whose bytes were changed; its maker then makes it again in the next run.
        """
        target = self.payload_path(record)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with (target.parent / f".{record.digest}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # processes of one machine that start together download once
                if not target.exists():
                    try:
                        self.store.get(record.digest, target)
                    except PayloadChanged as error:
                        raise report_damage(self.store, record, error) from error
        return target

    def payload_path(self, record: Record) -> Path:
        """Where a payload lies on this machine once it is downloaded."""
        return self.environment.work_root.parent / "payloads" / record.digest

    def open_run(self, work: Path) -> JobRun:
        """The job's MLflow run, nested under the pipeline's; metrics wait on disk while the server is away."""
        from imagewright.tracking.job_run import open_job_run

        return open_job_run(
            task=self.job.name,
            stage=self.job.stage,
            spool=work / "tracking",
            config=sections_of(self.job, self.config),
            recipe=self.config.name,
            data_rev=", ".join(
                sorted({record.revision for record in self.inputs.values() if record.kind == "dataset" and record.revision})
            ),
            git_commit=self.environment.git_commit,
            image=self.environment.image_digest,
            pipeline_run=self.environment.pipeline_run,
        )

    def log_outcome(self, run: JobRun, record: Record, outcome: Outcome) -> None:
        """Puts the record's figures on the run, so MLflow's own table compares them."""
        for name, source in self.inputs.items():
            run.log_dataset(name, source.digest, source.uri, self.job.stage)
        figures: dict[str, Any] = {**{f"count/{name}": float(value) for name, value in record.counts.items()}, **record.metrics}
        run.set_tags({"payload": record.uri if record.digest else "", "revision": record.revision, "skipped": record.skipped})
        run.close(headline=figures, report=outcome.report)


def source_file(module: ModuleType) -> Path:
    """File of a job module; its bytes are part of the action key."""
    assert module.__file__ is not None
    return Path(module.__file__)


def derive_seed(seed: int, name: str) -> int:
    """An independent stream for each job: 31 bits of SHA-256 over the root seed and the job's name (numpy and torch both take them)."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:4], "big") >> 1


def fix_threads(threads: int) -> None:
    """Sets the thread count of the numeric libraries, which read it when they are first imported (the body imports them)."""
    if threads:
        for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[variable] = str(threads)
