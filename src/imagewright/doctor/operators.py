"""The operators of `infra/k8s`: whether a cluster serves their kinds, in the version our objects are written in, and runs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imagewright.doctor.finding import Finding, State

if TYPE_CHECKING:
    from imagewright.launch.cluster_api import ClusterApi


@dataclass(frozen=True)
class Operator:
    """An operator. controller: namespace and name of its deployment. needed_by: what does not work without it; empty for everything."""

    name: str
    group: str
    version: str
    controller: tuple[str, str] | None
    fix: str
    needed_by: str = ""


APPLY = "apply infra/k8s/base"
OPERATORS = (
    Operator("pipelines", "argoproj.io", "v1alpha1", ("kubeflow", "ml-pipeline"), f"{APPLY}/pipelines-crds, then {APPLY}/pipelines"),
    Operator("trainer", "trainer.kubeflow.org", "v1alpha1", ("kubeflow-system", "kubeflow-trainer-controller-manager"), f"{APPLY}/trainer"),
    Operator("jobset", "jobset.x-k8s.io", "v1alpha2", ("kubeflow-system", "jobset-controller-manager"), f"{APPLY}/trainer"),
    Operator("kueue", "kueue.x-k8s.io", "v1beta2", ("kueue-system", "kueue-controller-manager"), f"{APPLY}/kueue"),
    Operator("kserve", "serving.kserve.io", "v1beta1", ("kserve", "kserve-controller-manager"), f"{APPLY}/kserve", "mode kserve"),
    Operator("gateway", "gateway.networking.k8s.io", "v1", None, "install a Gateway API implementation", "a canary behind a route"),
    Operator("prometheus", "monitoring.coreos.com", "v1", None, "install the Prometheus operator", "alerts and metrics"),
    Operator("keda", "keda.sh", "v1alpha1", None, "install KEDA", "autoscaling by KEDA"),
)


def check_operators(cluster: ClusterApi, served: Mapping[str, set[str]]) -> list[Finding]:
    """One finding an operator. served: versions of each API group that the server has."""
    return [check_operator(cluster, operator, served.get(operator.group)) for operator in OPERATORS]


def check_operator(cluster: ClusterApi, operator: Operator, versions: set[str] | None) -> Finding:
    """Not installed, too old or too new, not running, or fine."""
    if versions is None:
        if operator.needed_by:
            return Finding(operator.name, State.skipped, f"not installed; needed for {operator.needed_by}", operator.fix)
        return Finding(operator.name, State.failed, f"is not installed: the cluster does not know {operator.group}", operator.fix)
    if operator.version not in versions:
        detail = f"serves {operator.group} in {', '.join(sorted(versions))}, not in {operator.version}"
        return Finding(operator.name, State.failed, detail, f"{operator.fix}: infra/k8s/README.md names the version")
    if operator.controller is not None and (problem := controller_problem(cluster, *operator.controller)):
        namespace, name = operator.controller
        return Finding(operator.name, State.failed, problem, f"kubectl -n {namespace} describe deployment {name}")
    return Finding(operator.name, State.ok, f"{operator.group}/{operator.version}")


def controller_problem(cluster: ClusterApi, namespace: str, name: str) -> str:
    """Why a controller does not run; empty when it does, or when we may not ask."""
    from kubernetes import client
    from kubernetes.client.exceptions import ApiException

    from imagewright.launch.cluster_api import FORBIDDEN, ClusterError

    try:
        found: Any = cluster.call(f"deployment {name}", client.AppsV1Api(cluster.api).read_namespaced_deployment, name, namespace)
    except ApiException:
        return f"its kinds are there, but no deployment {namespace}/{name}"
    except ClusterError as error:
        return "" if error.status == FORBIDDEN else str(error)
    if not (found.status and found.status.available_replicas):
        return f"deployment {namespace}/{name} has no pod that is ready"
    return ""
