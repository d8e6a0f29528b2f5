"""`imagewright doctor --cluster`: everything the platform needs from a cluster is asked for; nothing is changed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from imagewright.doctor.finding import Finding, State
from imagewright.doctor.operators import check_operators
from imagewright.errors import InputError, Problem

if TYPE_CHECKING:
    from imagewright.launch.cluster_api import ClusterApi

Tree = dict[str, Any]
MAX_VALUES_BYTES = 1 << 20
MAX_NAMED = 5
OLDEST_MINOR = 29
RESTRICTED = "pod-security.kubernetes.io/enforce"
ACCELERATOR = "nvidia.com/gpu"
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
LOCAL_QUEUES = {"group": "kueue.x-k8s.io", "version": "v1beta2", "plural": "localqueues"}
# What an installation creates: (API group, resource).
CREATED = (
    ("", "configmaps"),
    ("", "services"),
    ("apps", "deployments"),
    ("apps", "statefulsets"),
    ("batch", "cronjobs"),
    ("networking.k8s.io", "networkpolicies"),
    ("rbac.authorization.k8s.io", "roles"),
    ("trainer.kubeflow.org", "trainjobs"),
)


@dataclass(frozen=True)
class Installation:
    """A cluster, the namespace of the charts, and the value files they are installed with (none: only what every installation needs)."""

    cluster: ClusterApi
    values: Sequence[Tree] = ()

    def findings(self) -> list[Finding]:
        """Every check; only the first when the server cannot be asked at all. Never raises for what a cluster answers."""
        first, served = self.check_server()
        if first.state == State.failed:
            return [first]
        operators = check_operators(self.cluster, served)
        others: dict[str, Callable[[], Finding]] = {
            "namespace": self.check_namespace,
            "permissions": self.check_permissions,
            "secrets": self.check_secrets,
            "storage": self.check_storage,
            "accelerators": self.check_accelerators,
            "queue": self.check_queue,
            "pods": self.check_pods,
        }
        return [first, *operators, *(answered(name, check) for name, check in others.items())]

    def check_server(self) -> tuple[Finding, dict[str, set[str]]]:
        """Version of the server, and the versions of every API group it serves."""
        from kubernetes import client

        from imagewright.launch.cluster_api import ClusterError

        try:
            version = self.cluster.call("version", client.VersionApi(self.cluster.api).get_code)
            groups = self.cluster.call("API groups", client.ApisApi(self.cluster.api).get_api_versions).groups
        except ClusterError as error:
            (problem,) = error.problems
            return Finding("server", State.failed, f"{problem.key}: {problem.rule}", problem.fix), {}
        served = {group.name: {one.version for one in group.versions} for group in groups}
        minor = int(re.sub(r"\D", "", version.minor) or 0)
        if (version.major, minor) < ("1", OLDEST_MINOR):
            return Finding("server", State.warning, f"{version.git_version} is older than 1.{OLDEST_MINOR}", "upgrade the cluster"), served
        return Finding("server", State.ok, version.git_version), served

    def check_namespace(self) -> Finding:
        """Whether it is there and refuses pods that are not restricted."""
        from kubernetes import client
        from kubernetes.client.exceptions import ApiException

        name = self.cluster.namespace
        try:
            found = self.cluster.call(f"namespace {name}", client.CoreV1Api(self.cluster.api).read_namespace, name)
        except ApiException:
            return Finding("namespace", State.failed, f"{name} does not exist", "apply infra/k8s/base/namespaces")
        if (found.metadata.labels or {}).get(RESTRICTED) != "restricted":
            fix = f"kubectl label namespace {name} {RESTRICTED}=restricted"
            return Finding("namespace", State.warning, f"{name} admits pods that are not restricted", fix)
        return Finding("namespace", State.ok, f"{name}, restricted")

    def check_permissions(self) -> Finding:
        """Whether this account may create what an installation creates."""
        from kubernetes import client

        denied = []
        for group, resource in CREATED:
            asked = client.V1ResourceAttributes(group=group, resource=resource, verb="create", namespace=self.cluster.namespace)
            review = client.V1SelfSubjectAccessReview(spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=asked))
            method = client.AuthorizationV1Api(self.cluster.api).create_self_subject_access_review
            if not self.cluster.call(f"permission for {resource}", method, review).status.allowed:
                denied.append(resource)
        if denied:
            fix = f"ask for the role admin in namespace {self.cluster.namespace}, or let somebody install who has it"
            return Finding("permissions", State.warning, f"this account may not create {', '.join(denied)}", fix)
        return Finding("permissions", State.ok, "an installation may be made")

    def check_secrets(self) -> Finding:
        """Whether the secrets that the value files name are there with their keys. What is in them is not looked at."""
        wanted = wanted_secrets(self.values)
        if not wanted:
            return Finding("secrets", State.skipped, "no value files were given", "make cluster-check VALUES=my-values.yaml")
        problems = [problem for name, keys in sorted(wanted.items()) if (problem := self.secret_problem(name, keys))]
        if problems:
            fix = f"kubectl -n {self.cluster.namespace} create secret generic NAME --from-literal=KEY=..."
            return Finding("secrets", State.failed, "; ".join(problems), fix)
        return Finding("secrets", State.ok, ", ".join(sorted(wanted)))

    def secret_problem(self, name: str, keys: set[str]) -> str:
        """What is wrong with one secret; empty when nothing is."""
        from kubernetes import client
        from kubernetes.client.exceptions import ApiException

        try:
            found = self.cluster.call(
                f"secret {name}", client.CoreV1Api(self.cluster.api).read_namespaced_secret, name, self.cluster.namespace
            )
        except ApiException:
            return f"{name} does not exist"
        missing = sorted(keys - set(found.data or {}))
        return f"{name} lacks {', '.join(missing)}" if missing else ""

    def check_storage(self) -> Finding:
        """Whether the storage classes that the value files name are there, and one is the default where a value is empty."""
        from kubernetes import client

        found = self.cluster.call("storage classes", client.StorageV1Api(self.cluster.api).list_storage_class).items
        names = {one.metadata.name for one in found}
        wanted = {value for values in self.values for value in storage_classes(values)}
        if missing := sorted(wanted - names - {""}):
            return Finding("storage", State.failed, f"no storage class {', '.join(missing)}", f"classes: {', '.join(sorted(names))}")
        if not any((one.metadata.annotations or {}).get(DEFAULT_CLASS) == "true" for one in found):
            return Finding("storage", State.warning, "no storage class is the default", "name one in every className of the values")
        return Finding("storage", State.ok, ", ".join(sorted(names)))

    def check_accelerators(self) -> Finding:
        """GPUs of the nodes that exist now."""
        from kubernetes import client

        nodes = self.cluster.call("nodes", client.CoreV1Api(self.cluster.api).list_node).items
        counts = [int((node.status.allocatable or {}).get(ACCELERATOR, 0)) for node in nodes]
        if not any(counts):
            fix = "none is needed where pools scale to zero; else look at NVIDIA's GPU operator"
            return Finding("accelerators", State.warning, f"{len(nodes)} nodes, none with {ACCELERATOR} now", fix)
        return Finding("accelerators", State.ok, f"{sum(counts)} on {sum(map(bool, counts))} of {len(nodes)} nodes")

    def check_queue(self) -> Finding:
        """Whether the local queue admits work."""
        from kubernetes import client
        from kubernetes.client.exceptions import ApiException

        queues = [values["queues"] for values in self.values if (values.get("queues") or {}).get("enabled")]
        if not queues:
            return Finding("queue", State.skipped, "no value file enables queues", "set queues.enabled to share GPUs")
        name = queues[0].get("name", "training")
        where = {
            "group": "kueue.x-k8s.io",
            "version": "v1beta2",
            "plural": "localqueues",
            "namespace": self.cluster.namespace,
            "name": name,
        }
        try:
            found: Tree = self.cluster.call(
                f"queue {name}", client.CustomObjectsApi(self.cluster.api).get_namespaced_custom_object, **where
            )
        except ApiException:
            return Finding("queue", State.warning, f"{name} does not exist yet", "install the platform chart")
        active = [one for one in (found.get("status") or {}).get("conditions") or [] if one["type"] == "Active"]
        if not active or active[0].get("status") != "True":
            said = active[0].get("message", "") if active else "Kueue has not looked at it"
            return Finding("queue", State.failed, f"{name} is not active: {said}", "kubectl describe clusterqueue; stopPolicy must be None")
        return Finding("queue", State.ok, f"{name} admits work")

    def check_pods(self) -> Finding:
        """Why pods of the namespace wait."""
        from kubernetes import client

        from imagewright.launch.waiting_reasons import pod_reasons

        pods = self.cluster.call("pods", client.CoreV1Api(self.cluster.api).list_namespaced_pod, self.cluster.namespace).items
        plain = [self.cluster.api.sanitize_for_serialization(pod) for pod in pods]
        reasons = [reason for pod in plain for reason in pod_reasons(pod)]
        if reasons:
            more = f" and {len(reasons) - MAX_NAMED} more" if len(reasons) > MAX_NAMED else ""
            return Finding("pods", State.failed, "; ".join(reasons[:MAX_NAMED]) + more, "docs/operations.md lists what each means")
        return Finding("pods", State.ok, f"{len(plain)} pods, none waits")


def answered(name: str, check: Callable[[], Finding]) -> Finding:
    """A check whose question the cluster may refuse."""
    from imagewright.launch.cluster_api import FORBIDDEN, ClusterError

    try:
        return check()
    except ClusterError as error:
        (problem,) = error.problems
        if error.status == FORBIDDEN:
            return Finding(name, State.warning, f"this account may not look: {problem.rule}", "ask again with an account that may")
        return Finding(name, State.failed, f"{problem.key}: {problem.rule}", problem.fix)


def wanted_secrets(values: Sequence[Tree]) -> dict[str, set[str]]:
    """Name -> keys of the secrets that value files of either chart name."""
    wanted: dict[str, set[str]] = {}
    for one in values:
        mode = value(one, "mlflow.database.mode") or "bundled"
        keys = {
            "objectStore.existingSecret": {"access-key-id", "secret-access-key"},
            "mlflow.database.existingSecret": {"uri" if mode == "external" else "password"},
            "registry.git.existingSecret": {"git-credentials"},
            "annotation.existingSecret": {"uri", "link-key"},
            "platform.s3Secret": {"access-key-id", "secret-access-key"},
            "apiKeysSecret": {"api-keys"},
        }
        for path, needed in keys.items():
            if name := value(one, path):
                wanted.setdefault(name, set()).update(needed)
    return wanted


def value(values: Tree, path: str) -> Any:
    """A value by its dotted path; None where it is not set."""
    node: Any = values
    for key in path.split("."):
        node = node.get(key) if isinstance(node, dict) else None
    return node


def storage_classes(node: Any) -> list[str]:
    """Every `className` in a value file."""
    if not isinstance(node, dict):
        return []
    own = [str(node["className"])] if node.get("className") else []
    return own + [name for below in node.values() for name in storage_classes(below)]


def read_values(path: Path) -> Tree:
    """A value file. Raises InputError for one that is missing, large, damaged or no mapping."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_VALUES_BYTES + 1)
        found = yaml.safe_load(content) if len(content) <= MAX_VALUES_BYTES else None
    except (OSError, yaml.YAMLError) as error:
        raise InputError(Problem("--values", f"cannot be read: {error}", str(path))) from error
    if not isinstance(found, dict):
        raise InputError(Problem("--values", f"must be a YAML mapping of at most {MAX_VALUES_BYTES} bytes", str(path)))
    return found
