"""One training step run as a TrainJob: launch, progress and logs, resume after preemption, deadline, cancel."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from imagewright.config.placement import PlacementConfig
from imagewright.errors import Problem
from imagewright.launch.cluster_api import ClusterError, connect
from imagewright.launch.train_job import PodPlacement, TrainRequest, build_train_job
from imagewright.launch.train_job_client import TrainJobs, TrainJobState, was_preempted
from imagewright.launch.waiting_reasons import why_waiting
from imagewright.training.interruption import StopRequest, TrainingInterrupted

MAX_FAILURE_LINES = 20
MOMENT_SECONDS = 0.2


class TrainJobError(ClusterError):
    """A TrainJob that never ran, or failed by itself."""


@dataclass
class TrainJobStep:
    """Sees one training step through. say: where progress and the first node's log go, line by line."""

    jobs: TrainJobs
    request: TrainRequest
    placement: PlacementConfig
    pod: PodPlacement | None = None
    say: Callable[[str], None] = print
    clock: Callable[[], float] = time.monotonic
    stop: StopRequest = field(default_factory=StopRequest)
    interval_seconds: int = 5
    seen_until: dict[str, str] = field(default_factory=dict)
    """Pod name -> timestamp of its last log line passed on."""
    last_lines: list[str] = field(default_factory=list)
    unreadable: set[str] = field(default_factory=set)
    """Pods whose log we may not read."""

    def run(self) -> None:
        """Returns when training is complete. Raises TrainJobError, ClusterError, or TrainingInterrupted when this step was told to stop."""
        request = self.earlier_attempt()
        for resumes in range(self.placement.train_job.max_resumes + 1):
            created = self.jobs.create(build_train_job(request, self.placement, self.pod))
            self.say(f"{request.name}: {'created' if created else 'runs already, watching it'}, {self.placement.train_job.num_nodes} nodes")
            final = self.follow(request.name)
            if final.phase == "complete":
                return
            if final.phase == "failed" and not was_preempted(final):
                raise self.failed(final)
            self.say(f"{request.name} lost its nodes ({final.message}), {resumes} times before; training goes on from its last checkpoint")
            self.jobs.delete(request.name)
            request = replace(request, attempt=request.attempt + 1)
        rule = f"was preempted {self.placement.train_job.max_resumes + 1} times"
        fix = "resume continues from the last checkpoint; raise placement.train_job.max_resumes, or take nodes that are kept"
        raise TrainJobError(Problem(f"trainjob {self.request.name}", rule, None, fix))

    def earlier_attempt(self) -> TrainRequest:
        """The attempt to launch or to watch: one an earlier launcher left running, else a new one after those that ended."""
        request = self.request
        for state in self.jobs.attempts(request.key):
            number = int(state.name.rpartition("-")[2])
            if state.phase in {"waiting", "running"}:
                return replace(request, attempt=number)
            self.jobs.delete(state.name)
            request = replace(request, attempt=max(request.attempt, number + 1))
        return request

    def follow(self, name: str) -> TrainJobState:
        """Watches to the end; its last state."""
        settings = self.placement.train_job
        waiting_since: float | None = self.clock()
        said = ""
        for state in self.jobs.states(name, self.interval_seconds):
            if self.stop.requested:
                self.say(f"{name}: told to stop, its nodes save a checkpoint")
                self.jobs.delete(name)
                raise TrainingInterrupted(0)
            self.forward_log(state)
            if state.phase in {"complete", "failed", "gone"}:
                return state
            if state.phase == "running":
                waiting_since = None
                line = f"{name}: {state.num_ready} nodes run"
            else:
                waiting_since = self.clock() if waiting_since is None else waiting_since
                line = f"{name}: waiting: {self.why_waiting(state)}"
            if line != said:
                said = line
                self.say(line)
            if waiting_since is not None and self.clock() - waiting_since >= settings.schedule_deadline_seconds:
                self.jobs.delete(name)
                rule = f"did not run within {settings.schedule_deadline_seconds:.0f} s: {self.why_waiting(state)}"
                fix = (
                    "free or add nodes, take fewer (placement.train_job.num_nodes), or raise placement.train_job.schedule_deadline_seconds"
                )
                raise TrainJobError(Problem(f"trainjob {name}", rule, state.message, fix))
        raise AssertionError("the states of a TrainJob end with one that is final")

    def why_waiting(self, state: TrainJobState) -> str:
        """In the words of whoever knows."""
        return why_waiting(self.jobs.cluster, state.name, state.pods, state.message)

    def forward_log(self, state: TrainJobState) -> None:
        """Passes on what the first node printed since the last look; each line once."""
        if not state.pods:
            return
        first = state.pods[0]["metadata"]["name"]
        if first in self.unreadable:
            return
        try:
            lines = self.jobs.log_lines(first, self.seen_until.get(first, ""))
        except ClusterError as error:
            self.unreadable.add(first)
            self.say(f"the log of {first} cannot be read, training goes on without it: {error.problems[0].rule}")
            return
        for stamp, line in lines:
            self.seen_until[first] = stamp
            self.last_lines = [*self.last_lines[1 - MAX_FAILURE_LINES :], line]
            self.say(line)

    def failed(self, state: TrainJobState) -> TrainJobError:
        """A failure of the training itself, with the node, its exit code and the end of its log."""
        details = []
        for pod in state.pods:
            for one in pod.get("status", {}).get("containerStatuses") or []:
                ended = one.get("state", {}).get("terminated")
                if ended and ended["exitCode"]:
                    details.append(f"{pod['metadata']['name']} ended with {ended['exitCode']} {ended.get('reason', '')}".strip())
        log = "\n".join(self.last_lines)
        rule = f"failed: {state.message}; {', '.join(details)}\n{log}".rstrip()
        fix = f"kubectl describe trainjob {state.name} -n {self.jobs.cluster.namespace}; then imagewright resume"
        return TrainJobError(Problem(f"trainjob {state.name}", rule, None, fix))


def launch_train_job(request: TrainRequest, placement: PlacementConfig, pod: PodPlacement) -> None:
    """Runs one training step on the cluster this process is in (or KUBECONFIG names); SIGTERM ends the TrainJob after a checkpoint."""
    with StopRequest() as stop:
        cluster = replace(connect(placement.train_job.namespace), wait=partial(pause, stop))
        TrainJobStep(TrainJobs(cluster), request, placement, pod, stop=stop).run()


def pause(stop: StopRequest, seconds: float) -> None:
    """Waits, but only a moment longer once the step is told to stop: its own grace period must be enough to end the TrainJob."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, MOMENT_SECONDS))
        if stop.requested:
            return
