"""Creates, watches, reads and deletes TrainJobs: the part of a training launch that talks to the cluster."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from kubernetes import client, watch
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from imagewright.errors import Problem
from imagewright.launch.cluster_api import (
    CONFLICT,
    GONE,
    NOT_FOUND,
    PASSING,
    ClusterApi,
    ClusterError,
    is_unknown_kind,
    refused,
    retry_after,
    said,
)
from imagewright.launch.train_job import KEY_LABEL, MAX_LABEL

Tree = dict[str, Any]
TRAINER = {"group": "trainer.kubeflow.org", "version": "v1alpha1", "plural": "trainjobs"}
JOBSET_LABEL = "jobset.sigs.k8s.io/jobset-name"
INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
EXIT_INTERRUPTED = 75  # imagewright.training.interruption: saved and stopped, run it again
NOT_STARTED = 400  # what the log of a container that has not started is answered with
MAX_LOG_BYTES = 1 << 20
MAX_LOG_LINES = 2000

Phase = Literal["waiting", "running", "complete", "failed", "gone"]


@dataclass(frozen=True)
class TrainJobState:
    """What is known of a TrainJob at one moment. pods: as the API gives them."""

    name: str
    phase: Phase
    message: str
    pods: tuple[Tree, ...] = ()

    @property
    def num_ready(self) -> int:
        """Nodes whose container runs."""
        return sum(pod.get("status", {}).get("phase") == "Running" for pod in self.pods)


class TrainJobs:
    """TrainJobs of one namespace."""

    def __init__(self, cluster: ClusterApi) -> None:
        self.cluster = cluster
        self.objects = client.CustomObjectsApi(cluster.api)
        self.core = client.CoreV1Api(cluster.api)

    def create(self, train_job: Tree) -> bool:
        """Creates it; False when one for the same work is there already, to be watched instead.

        Raises ClusterError when the Trainer is not installed, the request is refused, or the name is taken by other work.
        """
        name = train_job["metadata"]["name"]
        try:
            self.cluster.call(
                f"trainjob {name}",
                self.objects.create_namespaced_custom_object,
                **TRAINER,
                namespace=self.cluster.namespace,
                body=train_job,
            )
        except ApiException as error:
            if error.status == CONFLICT:
                return self.adopt(train_job)
            raise self.missing(name, error) from error
        return True

    def attempts(self, key: str) -> list[TrainJobState]:
        """States of every TrainJob for the work of an action key, in the order of their names."""
        selector = f"{KEY_LABEL}={key[:MAX_LABEL]}"
        try:
            found = self.cluster.call(
                "trainjobs",
                self.objects.list_namespaced_custom_object,
                **TRAINER,
                namespace=self.cluster.namespace,
                label_selector=selector,
            )
        except ApiException as error:
            raise self.missing(key, error) from error
        return [self.state(item) for item in sorted(found["items"], key=lambda item: item["metadata"]["name"])]

    def adopt(self, train_job: Tree) -> bool:
        """Accepts an existing TrainJob with this name when it does the same work."""
        name = train_job["metadata"]["name"]
        labels = self.read(name).get("metadata", {}).get("labels") or {}
        if labels.get(KEY_LABEL) != train_job["metadata"]["labels"][KEY_LABEL]:
            fix = f"kubectl delete trainjob {name} -n {self.cluster.namespace}"
            raise ClusterError(Problem(f"trainjob {name}", "exists and does other work", labels.get(KEY_LABEL), fix))
        return False

    def read(self, name: str) -> Tree:
        """The object. Raises ApiException 404 when it is gone."""
        found: Tree = self.cluster.call(
            f"trainjob {name}", self.objects.get_namespaced_custom_object, **TRAINER, namespace=self.cluster.namespace, name=name
        )
        return found

    def delete(self, name: str) -> None:
        """Ends it with its pods, which save a checkpoint on SIGTERM; one that is gone already is fine."""
        try:
            self.cluster.call(
                f"trainjob {name}",
                self.objects.delete_namespaced_custom_object,
                **TRAINER,
                namespace=self.cluster.namespace,
                name=name,
                propagation_policy="Foreground",
            )
        except ApiException as error:
            if error.status != NOT_FOUND:
                raise ClusterError(Problem(f"trainjob {name}", f"cannot be deleted: {said(error)}", None, "delete it by hand")) from error

    def states(self, name: str, interval_seconds: int = 5) -> Iterator[TrainJobState]:
        """Its state now, at every change, and at least every `interval_seconds`; ends after `gone`.

        A watch that is dropped goes on from the last version seen; one that is too old (410) starts again from the object itself.
        """
        version = ""
        while True:
            if not version:
                try:
                    found = self.read(name)
                except ApiException:
                    yield TrainJobState(name, "gone", "it was deleted")
                    return
                version = found["metadata"]["resourceVersion"]
                yield self.state(found)
            newest: Tree | None = None
            try:
                for event in self.watch(name, version, interval_seconds):
                    newest = event["object"]
                    assert newest is not None
                    version = newest["metadata"]["resourceVersion"]
                    if event["type"] == "DELETED":
                        yield TrainJobState(name, "gone", "it was deleted")
                        return
                    if event["type"] != "BOOKMARK":
                        yield self.state(newest)
            except ApiException as error:
                if error.status not in {GONE, *PASSING}:
                    unknown = error.status == NOT_FOUND
                    raise (self.missing(name, error) if unknown else refused(f"watch of {name}", self.cluster.namespace, error)) from error
                if error.status != GONE:
                    self.cluster.wait(retry_after(error, 1.0))
                version = ""
            except (HTTPError, OSError):
                self.cluster.wait(1.0)  # dropped: the next watch goes on from the last version
            else:
                if newest is None:
                    version = ""  # quiet: pods may have changed where the TrainJob did not

    def watch(self, name: str, version: str, seconds: int) -> Iterator[Tree]:
        """Events of one TrainJob after `version`."""
        return iter(
            watch.Watch().stream(
                self.objects.list_namespaced_custom_object,
                **TRAINER,
                namespace=self.cluster.namespace,
                field_selector=f"metadata.name={name}",
                resource_version=version,
                allow_watch_bookmarks=True,
                timeout_seconds=seconds,
                _request_timeout=seconds + 30,
            )
        )

    def state(self, train_job: Tree) -> TrainJobState:
        """Reads conditions and pods."""
        name = train_job["metadata"]["name"]
        conditions = {one["type"]: one for one in (train_job.get("status") or {}).get("conditions") or [] if one.get("status") == "True"}
        pods = tuple(self.pods(name))
        if "Complete" in conditions:
            return TrainJobState(name, "complete", conditions["Complete"].get("message", ""), pods)
        if "Failed" in conditions:
            return TrainJobState(name, "failed", conditions["Failed"].get("message", ""), pods)
        if "Suspended" in conditions:
            return TrainJobState(name, "waiting", conditions["Suspended"].get("message", ""), pods)
        wanted = (train_job.get("spec", {}).get("trainer") or {}).get("numNodes", 1)
        running = sum(pod.get("status", {}).get("phase") in {"Running", "Succeeded"} for pod in pods)
        message = f"{running} of {wanted} nodes run" if pods else ""
        return TrainJobState(name, "running" if running >= wanted else "waiting", message, pods)

    def pods(self, name: str) -> list[Tree]:
        """Pods of a TrainJob, by node number."""
        found = self.cluster.call(
            f"pods of {name}", self.core.list_namespaced_pod, self.cluster.namespace, label_selector=f"{JOBSET_LABEL}={name}"
        )
        plain = [self.cluster.api.sanitize_for_serialization(pod) for pod in found.items]
        return sorted(plain, key=lambda pod: int((pod["metadata"].get("labels") or {}).get(INDEX_LABEL, 0)))

    def log_lines(self, pod: str, after: str) -> list[tuple[str, str]]:
        """(timestamp, line) of a pod's log after a timestamp; nothing while there is no log. Raises ClusterError when refused."""
        try:
            text = self.cluster.call(
                f"log of {pod}",
                self.core.read_namespaced_pod_log,
                pod,
                self.cluster.namespace,
                timestamps=True,
                tail_lines=MAX_LOG_LINES,
                limit_bytes=MAX_LOG_BYTES,
            )
        except ApiException:
            return []
        except ClusterError as error:
            if error.status != NOT_STARTED:
                raise
            return []
        pairs = [line.partition(" ")[::2] for line in (text or "").splitlines()]
        return [(stamp, line) for stamp, line in pairs if stamp > after]

    def missing(self, name: str, error: ApiException) -> ClusterError:
        """A 404 where the object cannot be the reason."""
        if is_unknown_kind(error):
            fix = "install Kubeflow Trainer (infra/k8s/README.md), or set placement.train_job.num_nodes to 1"
            return ClusterError(Problem(f"trainjob {name}", "is of a kind this cluster does not know", TRAINER["group"], fix))
        rule = f"the cluster answered {error.status}: {said(error)}"
        return ClusterError(Problem(f"trainjob {name}", rule, self.cluster.namespace, "check the namespace"))


def was_preempted(state: TrainJobState) -> bool:
    """True when a failed TrainJob lost a node or was asked to stop, rather than failed by itself."""
    codes: list[int] = []
    for pod in state.pods:
        status = pod.get("status", {})
        if any(one["type"] == "DisruptionTarget" and one.get("status") == "True" for one in status.get("conditions") or []):
            return True
        ended = [one.get("state", {}).get("terminated") for one in status.get("containerStatuses") or []]
        codes.extend(one["exitCode"] for one in ended if one and one["exitCode"])
    # No pod is left to ask when its node went away with it.
    return not codes or EXIT_INTERRUPTED in codes
