"""The rules every pod we render or launch must pass: Kubernetes' "restricted" pod security standard, and ours on top.

Source of the standard: https://kubernetes.io/docs/concepts/security/pod-security-standards/ (v1.33). Ours: read-only root file
systems, CPU and memory limits, images by digest, no service account token that nobody asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

TOKEN_ANNOTATION = "imagewright.io/needs-token"  # noqa: S105 - the name of an annotation; its value is the reason
DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
ALLOWED_VOLUMES = frozenset(
    {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret"}
)
ALLOWED_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
    }
)
ALLOWED_SELINUX_TYPES = frozenset({None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"})
SECCOMP_PROFILES = frozenset({"RuntimeDefault", "Localhost"})
CONTAINER_LISTS = ("initContainers", "containers", "ephemeralContainers")


@dataclass(frozen=True)
class PolicyFinding:
    """One broken rule: the object (kind/name), the path inside it, the rule and the value found there."""

    source: str
    path: str
    rule: str
    received: object = None

    def __str__(self) -> str:
        return f"{self.source}: {self.path}: {self.rule}; received {self.received!r}"


def check_manifests(manifests: Iterable[Mapping[str, Any]]) -> list[PolicyFinding]:
    """Return every broken rule of every pod in these Kubernetes objects, in whatever they are nested."""
    findings: list[PolicyFinding] = []
    for manifest in manifests:
        source = f"{manifest.get('kind', '?')}/{(manifest.get('metadata') or {}).get('name', '?')}"
        for path, pod, metadata in pod_specs(manifest):
            findings += [
                PolicyFinding(source, f"{path}.{place}".strip("."), rule, received) for place, rule, received in check_pod(pod, metadata)
            ]
    return findings


def pod_specs(
    node: Any, path: str = "", owner: Mapping[str, Any] | None = None
) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """Yield (path, pod spec, metadata beside it) of every mapping that holds a list of containers, at any depth."""
    if isinstance(node, Mapping):
        containers = node.get("containers")
        if isinstance(containers, list) and containers and all(isinstance(one, Mapping) for one in containers):
            yield path, node, (owner or {}).get("metadata") or {}
            return
        for key, value in node.items():
            yield from pod_specs(value, f"{path}.{key}" if path else str(key), node)
    elif isinstance(node, list):
        for position, value in enumerate(node):
            yield from pod_specs(value, f"{path}[{position}]", owner)


def check_pod(pod: Mapping[str, Any], metadata: Mapping[str, Any]) -> Iterator[tuple[str, str, object]]:
    """Yield (path, rule, value received) for every rule a pod spec breaks."""
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(name):
            yield name, "must not be true", pod[name]
    if pod.get("automountServiceAccountToken") is not False and not (metadata.get("annotations") or {}).get(TOKEN_ANNOTATION):
        rule = f"must be false, or annotation {TOKEN_ANNOTATION} must give the reason"
        yield "automountServiceAccountToken", rule, pod.get("automountServiceAccountToken")
    for volume in pod.get("volumes") or []:
        kinds = set(volume) - {"name"}
        if kinds - ALLOWED_VOLUMES:
            yield f"volumes[{volume.get('name')}]", "must be of an allowed type", sorted(kinds - ALLOWED_VOLUMES)
    context = pod.get("securityContext") or {}
    for sysctl in context.get("sysctls") or []:
        if sysctl.get("name") not in ALLOWED_SYSCTLS:
            yield "securityContext.sysctls", "must be a safe sysctl", sysctl.get("name")
    yield from _check_identity(context, "securityContext")
    for kind in CONTAINER_LISTS:
        for container in pod.get(kind) or []:
            for place, rule, received in _check_container(container, context):
                yield f"{kind}[{container.get('name')}].{place}", rule, received


def _check_container(container: Mapping[str, Any], pod_context: Mapping[str, Any]) -> Iterator[tuple[str, str, object]]:
    context = container.get("securityContext") or {}
    merged = {**pod_context, **context}
    if merged.get("runAsNonRoot") is not True:
        yield "securityContext.runAsNonRoot", "must be true", merged.get("runAsNonRoot")
    if (merged.get("seccompProfile") or {}).get("type") not in SECCOMP_PROFILES:
        yield "securityContext.seccompProfile.type", "must be RuntimeDefault or Localhost", merged.get("seccompProfile")
    if context.get("privileged"):
        yield "securityContext.privileged", "must not be true", True
    if context.get("allowPrivilegeEscalation") is not False:
        yield "securityContext.allowPrivilegeEscalation", "must be false", context.get("allowPrivilegeEscalation")
    capabilities = context.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or []):
        yield "securityContext.capabilities.drop", "must contain ALL", capabilities.get("drop")
    if set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}:
        yield "securityContext.capabilities.add", "may contain NET_BIND_SERVICE only", capabilities["add"]
    if context.get("procMount") not in (None, "Default"):
        yield "securityContext.procMount", "must be Default", context["procMount"]
    yield from _check_identity(context, "securityContext")
    for port in container.get("ports") or []:
        if port.get("hostPort"):
            yield "ports", "must not take a port of the host", port["hostPort"]
    if context.get("readOnlyRootFilesystem") is not True:
        yield "securityContext.readOnlyRootFilesystem", "must be true", context.get("readOnlyRootFilesystem")
    limits = (container.get("resources") or {}).get("limits") or {}
    for resource in ("cpu", "memory"):
        if resource not in limits:
            yield f"resources.limits.{resource}", "must be set", None
    if not DIGEST.search(str(container.get("image", ""))):
        yield "image", "must end in @sha256:<64 hex>", container.get("image")


def _check_identity(context: Mapping[str, Any], place: str) -> Iterator[tuple[str, str, object]]:
    """Rules that hold for the security context of a pod and of each container alike."""
    if context.get("runAsUser") == 0:
        yield f"{place}.runAsUser", "must not be 0", 0
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield f"{place}.windowsOptions.hostProcess", "must not be true", True
    selinux = context.get("seLinuxOptions") or {}
    if selinux.get("type") not in ALLOWED_SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield f"{place}.seLinuxOptions", "must have an allowed type, and neither user nor role", dict(selinux)
    if (context.get("appArmorProfile") or {}).get("type") == "Unconfined":
        yield f"{place}.appArmorProfile", "must not be Unconfined", "Unconfined"
