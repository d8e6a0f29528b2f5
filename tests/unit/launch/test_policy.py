"""The pod policy: a good pod has no finding, and each broken rule has exactly its own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from imagewright.launch.policy import TOKEN_ANNOTATION, check_manifests, pod_specs

Pod = dict[str, Any]


def good_pod() -> Pod:
    return {
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        "containers": [
            {
                "name": "server",
                "image": "registry.example.com/server@sha256:" + "a" * 64,
                "ports": [{"containerPort": 8000}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
                },
            }
        ],
    }


def deployment(pod: Pod, annotations: dict[str, str] | None = None) -> dict[str, Any]:
    metadata = {"annotations": annotations} if annotations else {}
    return {"kind": "Deployment", "metadata": {"name": "d"}, "spec": {"template": {"metadata": metadata, "spec": pod}}}


def container(pod: Pod) -> dict[str, Any]:
    return pod["containers"][0]


def security(pod: Pod) -> dict[str, Any]:
    return container(pod)["securityContext"]


BREAKAGES: list[tuple[str, Callable[[Pod], object]]] = [
    ("hostNetwork", lambda pod: pod.update(hostNetwork=True)),
    ("hostPID", lambda pod: pod.update(hostPID=True)),
    ("hostIPC", lambda pod: pod.update(hostIPC=True)),
    ("automountServiceAccountToken", lambda pod: pod.pop("automountServiceAccountToken")),
    ("volumes[host]", lambda pod: pod["volumes"].append({"name": "host", "hostPath": {"path": "/"}})),
    ("securityContext.sysctls", lambda pod: pod["securityContext"].update(sysctls=[{"name": "kernel.msgmax", "value": "1"}])),
    ("securityContext.runAsUser", lambda pod: pod["securityContext"].update(runAsUser=0)),
    ("securityContext.windowsOptions.hostProcess", lambda pod: pod["securityContext"].update(windowsOptions={"hostProcess": True})),
    ("securityContext.seLinuxOptions", lambda pod: pod["securityContext"].update(seLinuxOptions={"type": "spc_t"})),
    ("securityContext.appArmorProfile", lambda pod: pod["securityContext"].update(appArmorProfile={"type": "Unconfined"})),
    ("containers[server].securityContext.runAsNonRoot", lambda pod: pod["securityContext"].pop("runAsNonRoot")),
    ("containers[server].securityContext.runAsNonRoot", lambda pod: security(pod).update(runAsNonRoot=False)),
    ("containers[server].securityContext.runAsUser", lambda pod: security(pod).update(runAsUser=0)),
    ("containers[server].securityContext.seccompProfile.type", lambda pod: pod["securityContext"].pop("seccompProfile")),
    ("containers[server].securityContext.seccompProfile.type", lambda pod: security(pod).update(seccompProfile={"type": "Unconfined"})),
    ("containers[server].securityContext.privileged", lambda pod: security(pod).update(privileged=True)),
    ("containers[server].securityContext.allowPrivilegeEscalation", lambda pod: security(pod).pop("allowPrivilegeEscalation")),
    ("containers[server].securityContext.capabilities.drop", lambda pod: security(pod)["capabilities"].pop("drop")),
    ("containers[server].securityContext.capabilities.add", lambda pod: security(pod)["capabilities"].update(add=["SYS_ADMIN"])),
    ("containers[server].securityContext.procMount", lambda pod: security(pod).update(procMount="Unmasked")),
    ("containers[server].ports", lambda pod: container(pod)["ports"].append({"containerPort": 1, "hostPort": 1})),
    ("containers[server].securityContext.readOnlyRootFilesystem", lambda pod: security(pod).pop("readOnlyRootFilesystem")),
    ("containers[server].resources.limits.cpu", lambda pod: container(pod)["resources"]["limits"].pop("cpu")),
    ("containers[server].resources.limits.memory", lambda pod: container(pod)["resources"]["limits"].pop("memory")),
    ("containers[server].image", lambda pod: container(pod).update(image="server:latest")),
    ("containers[server].image", lambda pod: container(pod).update(image="server@sha256:" + "a" * 63)),
]


def test_a_pod_that_keeps_every_rule_has_no_finding() -> None:
    assert check_manifests([deployment(good_pod())]) == []


@pytest.mark.parametrize(("path", "damage"), BREAKAGES, ids=[f"{number}-{path}" for number, (path, _) in enumerate(BREAKAGES)])
def test_each_broken_rule_is_found_once_with_its_place(path: str, damage: Callable[[Pod], object]) -> None:
    pod = good_pod()
    damage(pod)
    findings = check_manifests([deployment(pod)])
    assert [finding.path for finding in findings] == [f"spec.template.spec.{path}"]
    assert findings[0].source == "Deployment/d"


def test_init_containers_are_held_to_the_same_rules() -> None:
    pod = good_pod()
    pod["initContainers"] = [copy.deepcopy(container(pod))]
    pod["initContainers"][0]["image"] = "busybox"
    assert [finding.path for finding in check_manifests([deployment(pod)])] == ["spec.template.spec.initContainers[server].image"]


def test_a_token_needs_a_reason() -> None:
    pod = good_pod()
    pod["automountServiceAccountToken"] = True
    assert len(check_manifests([deployment(pod)])) == 1
    assert check_manifests([deployment(pod, {TOKEN_ANNOTATION: "launches training jobs"})]) == []


def test_pods_are_found_however_deep_they_are_nested() -> None:
    pod = good_pod()
    cron = {"kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": {"spec": pod}}}}}
    runtime = {
        "kind": "ClusterTrainingRuntime",
        "spec": {"template": {"spec": {"replicatedJobs": [{"template": {"spec": {"template": {"spec": pod}}}}]}}},
    }
    service = {"kind": "InferenceService", "spec": {"predictor": pod}}
    for manifest in (cron, runtime, service, {"kind": "Pod", "spec": pod}):
        assert len(list(pod_specs(manifest))) == 1
    assert list(pod_specs({"kind": "ConfigMap", "data": {"containers": "none"}})) == []
