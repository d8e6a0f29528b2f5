"""Why the nodes of a TrainJob do not run, in the words of whoever knows: Kueue, the scheduler, the kubelet, the controllers' warnings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from imagewright.launch.cluster_api import ClusterApi, ClusterError

Tree = dict[str, Any]
WORKLOADS = {"group": "kueue.x-k8s.io", "version": "v1beta2", "plural": "workloads"}
MAX_EVENTS = 500
REPEATED = frozenset({"FailedScheduling", "BackOff", "Failed"})
"""Events that say what a pod's own conditions say already."""


def why_waiting(cluster: ClusterApi, name: str, pods: Sequence[Tree], message: str) -> str:
    """Every reason once; the TrainJob's own word, `message`, where there is none. pods: those of the TrainJob, as the API gives them."""
    reasons = [*queue_reasons(cluster, name), *(reason for pod in pods for reason in pod_reasons(pod)), *warnings(cluster, name)]
    return "; ".join(dict.fromkeys(reasons)) or message or "no pod was created yet; when it stays so: is the Trainer's controller running?"


def pod_reasons(pod: Tree) -> list[str]:
    """Why one pod does not run."""
    status = pod.get("status", {})
    name = pod["metadata"]["name"]
    unscheduled = [
        f"{name}: {one.get('message', one.get('reason', ''))}"
        for one in status.get("conditions") or []
        if one["type"] == "PodScheduled" and one.get("status") == "False"
    ]
    containers = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    waiting = [one.get("state", {}).get("waiting") for one in containers]
    return [*unscheduled, *(f"{name}: {one.get('reason', '')} {one.get('message', '')}".strip() for one in waiting if one)]


def queue_reasons(cluster: ClusterApi, name: str) -> list[str]:
    """What Kueue says about the workload of a TrainJob; nothing where Kueue is not installed."""
    objects = client.CustomObjectsApi(cluster.api)
    try:
        found = cluster.call(f"workloads of {name}", objects.list_namespaced_custom_object, **WORKLOADS, namespace=cluster.namespace)
    except ApiException:
        return []
    except ClusterError as error:
        return [f"Kueue: {error.problems[0].rule}"]
    own = [
        item for item in found.get("items", []) if any(owner.get("name") == name for owner in item["metadata"].get("ownerReferences", []))
    ]
    conditions = [one for item in own for one in (item.get("status") or {}).get("conditions") or []]
    return [f"Kueue: {one.get('message', '')}" for one in conditions if one["type"] == "QuotaReserved" and one.get("status") != "True"]


def warnings(cluster: ClusterApi, name: str) -> list[str]:
    """Warning events of a TrainJob and of what was made from it: pods that could not be created, volumes that could not be mounted."""
    list_events = client.CoreV1Api(cluster.api).list_namespaced_event
    try:
        found = cluster.call(f"events of {name}", list_events, cluster.namespace, field_selector="type=Warning", limit=MAX_EVENTS)
    except ApiException:
        return []
    except ClusterError as error:
        return [f"events: {error.problems[0].rule}"]
    own = [one for one in found.items if one.type == "Warning" and f"{one.involved_object.name}-".startswith(f"{name}-")]
    return [f"{one.involved_object.name}: {one.reason}: {one.message}" for one in own if one.reason not in REPEATED]
