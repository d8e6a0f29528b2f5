"""Steps of a Kubeflow run that no node takes: their waiting ends too, which the deadline of a pod, counted from its start, cannot do."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from imagewright.errors import Problem
from imagewright.launch.kubeflow import Kubeflow, KubeflowError, RemoteRun


@dataclass
class PendingSteps:
    """Remembers since when each step waits. clock: seconds."""

    kubeflow: Kubeflow
    clock: Callable[[], float] = time.monotonic
    since: dict[str, float] = field(default_factory=dict)
    """Task id -> when it was first seen waiting."""

    def check(self, run: RemoteRun) -> None:
        """Ends the run when a step waited longer than `kubeflow.pending_deadline_seconds` without a pause; 0 waits for ever.

        Raises KubeflowError that names the step and its pod.
        """
        deadline, now = self.kubeflow.config.pending_deadline_seconds, self.clock()
        self.since = {one.task_id: self.since.get(one.task_id, now) for one in run.pending}
        overdue = [one for one in run.pending if deadline and now - self.since[one.task_id] >= deadline]
        if not overdue:
            return
        self.kubeflow.terminate(run.run_id)
        first = overdue[0]
        rule = f"was taken by no node within {deadline:.0f} s; the run was ended"
        pod = f"kubectl -n {self.kubeflow.config.namespace or 'kubeflow'} describe pod {first.pod}".strip()
        fix = f"see why: {pod}; then imagewright resume {run.run_id} --on kfp, or raise kubeflow.pending_deadline_seconds"
        raise KubeflowError(Problem(f"step {first.name}", rule, f"{len(overdue)} waiting", fix))
