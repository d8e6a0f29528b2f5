"""Every chart with every set of values: it lints, renders what is committed, and what it renders is valid and passes the pod policy."""

from __future__ import annotations

import functools
import json
import os
import warnings
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
from helm_python import lint

from helm.charts import ALL_CASES, CHARTS, NAMESPACE, case_values, defaults, folder, manifests, parse
from helm.golden import golden_path, golden_text, readme
from imagewright.launch.policy import check_manifests, pod_specs

KUBERNETES_VERSION = "1.33"
SCHEMAS_VARIABLE = "IMAGEWRIGHT_CRD_SCHEMAS"
CUSTOM_GROUPS = {
    "gateway.networking.k8s.io",
    "keda.sh",
    "kueue.x-k8s.io",
    "monitoring.coreos.com",
    "serving.kserve.io",
    "trainer.kubeflow.org",
}
# Kinds whose schema may be missing from the folder; every other one must be in it.
NOT_PUBLISHED_HERE = {"WorkloadPriorityClass"}
SECRET_VERBS = {"*", "escalate", "bind", "impersonate"}

each_case = pytest.mark.parametrize(("chart", "case"), ALL_CASES, ids=[f"{chart}-{case}" for chart, case in ALL_CASES])


def group(manifest: dict[str, Any]) -> str:
    return manifest["apiVersion"].rpartition("/")[0]


@functools.cache
def custom_schemas() -> dict[tuple[str, str], jsonschema.Draft202012Validator]:
    """Return {(apiVersion, kind): validator} of the CRDs in the folder that the variable names; empty without it."""
    found = {}
    for path in sorted(Path(os.environ[SCHEMAS_VARIABLE]).glob("*.yaml")) if SCHEMAS_VARIABLE in os.environ else []:
        definition = parse(path.read_text(encoding="utf-8"))[0]["spec"]
        for version in definition["versions"]:
            key = (f"{definition['group']}/{version['name']}", definition["names"]["kind"])
            found[key] = jsonschema.Draft202012Validator(closed(version["schema"]["openAPIV3Schema"]))
    return found


def closed(schema: Any) -> Any:
    """Refuse unknown fields, which an API server would silently drop."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items()}
    if "properties" in schema and "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        # The top level carries metadata, which API servers check by themselves.
        result["additionalProperties"] = False
    return result


@each_case
def test_a_chart_lints_without_warnings(chart: str, case: str) -> None:
    report = lint(folder(chart), case_values(chart, case), strict=True, namespace=NAMESPACE)
    assert [message for message in report["messages"] if message["severity"] >= 2] == []
    assert report["errors"] == []


@each_case
def test_what_is_rendered_is_what_is_committed(chart: str, case: str) -> None:
    assert golden_path(chart, case).read_text(encoding="utf-8") == golden_text(chart, case), "run `make golden` and look at the difference"


@each_case
def test_core_objects_are_valid_kubernetes(chart: str, case: str) -> None:
    for manifest in manifests(chart, case):
        if group(manifest) not in CUSTOM_GROUPS:
            kubernetes_validate.validate(manifest, KUBERNETES_VERSION, strict=True)


@each_case
def test_custom_objects_are_valid_against_their_published_schemas(chart: str, case: str) -> None:
    custom = [manifest for manifest in manifests(chart, case) if group(manifest) in CUSTOM_GROUPS]
    schemas = custom_schemas()
    if custom and not schemas:
        warnings.warn(f"{SCHEMAS_VARIABLE} names no folder of CRDs: {len(custom)} custom objects were not validated", stacklevel=1)
        return
    unchecked = {manifest["kind"] for manifest in custom if (manifest["apiVersion"], manifest["kind"]) not in schemas}
    assert unchecked <= NOT_PUBLISHED_HERE
    for manifest in custom:
        if manifest["kind"] in unchecked:
            continue
        validator = schemas[manifest["apiVersion"], manifest["kind"]]
        problems = validator.iter_errors(manifest)
        assert [f"{problem.json_path}: {problem.message}" for problem in problems] == [], manifest["metadata"]["name"]
        wrong = {**manifest, "spec": {**manifest["spec"], "mistyped": 1}} if "spec" in manifest else {**manifest, "mistyped": 1}
        assert not validator.is_valid(wrong)


@each_case
def test_every_pod_passes_the_policy(chart: str, case: str) -> None:
    rendered = manifests(chart, case)
    assert sum(len(list(pod_specs(manifest))) for manifest in rendered) > 0
    assert [str(finding) for finding in check_manifests(rendered)] == []


@each_case
def test_access_rules_have_no_wildcard_no_secrets_and_no_exec(chart: str, case: str) -> None:
    for manifest in manifests(chart, case):
        for rule in manifest.get("rules", []) if manifest["kind"] in ("Role", "ClusterRole") else []:
            assert "*" not in rule["apiGroups"] + rule["resources"]
            assert not {"secrets", "pods/exec", "pods/attach", "serviceaccounts/token"} & set(rule["resources"])
            assert not SECRET_VERBS & set(rule["verbs"])
        assert manifest["kind"] not in ("Secret", "ClusterRoleBinding")


@each_case
def test_services_and_policies_select_pods_that_exist(chart: str, case: str) -> None:
    rendered = manifests(chart, case)
    labels = [metadata.get("labels", {}) for manifest in rendered for _, _, metadata in pod_specs(manifest)]
    for manifest in rendered:
        selector = manifest["spec"].get("selector", {}) if manifest["kind"] in ("Service", "PodDisruptionBudget") else None
        if selector is not None:
            wanted = selector.get("matchLabels", selector)
            assert any(wanted.items() <= found.items() for found in labels), manifest["metadata"]["name"]


def test_the_server_accepts_the_names_of_its_own_service() -> None:
    (server,) = [
        one for one in manifests("imagewright", "external") if one["kind"] == "Deployment" and one["metadata"]["name"].endswith("mlflow")
    ]
    arguments = server["spec"]["template"]["spec"]["containers"][0]["args"]
    hosts = next(argument for argument in arguments if argument.startswith("--allowed-hosts=")).removeprefix("--allowed-hosts=").split(",")
    assert {"iw-imagewright-mlflow", "iw-imagewright-mlflow.images.svc:5000", "mlflow.example.com"} <= set(hosts)
    assert not any("*" in host for host in hosts)


def test_the_dashboard_is_valid_json_with_unique_panels() -> None:
    (found,) = [
        one
        for one in manifests("imagewright", "monitoring")
        if one["kind"] == "ConfigMap" and one["metadata"]["name"].endswith("dashboard")
    ]
    panels = json.loads(found["data"]["imagewright-platform.json"])["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)


@pytest.mark.parametrize("chart", CHARTS)
def test_the_readme_lists_the_values_as_they_are(chart: str) -> None:
    assert (folder(chart) / "README.md").read_text(encoding="utf-8") == readme(chart), "run `make golden`"


def test_training_nodes_may_reach_one_another_on_every_port() -> None:
    rendered = manifests("imagewright", "training")
    (runtime,) = [one for one in rendered if one["kind"] == "ClusterTrainingRuntime"]
    (pod,) = [metadata for _, _, metadata in pod_specs(runtime)]
    (policy,) = [one for one in rendered if one["kind"] == "NetworkPolicy" and one["metadata"]["name"] == "iw-imagewright-training"]
    chosen = policy["spec"]["podSelector"]["matchLabels"]
    assert chosen.items() <= pod["labels"].items()
    for direction, side in (("ingress", "from"), ("egress", "to")):
        (rule,) = policy["spec"][direction]
        assert rule == {side: [{"podSelector": {"matchLabels": chosen}}]}


def test_torchrun_leaves_training_time_to_save_and_ends_before_the_kubelet_kills_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.distributed.launcher.api import LaunchConfig

    (runtime,) = [one for one in manifests("imagewright", "training") if one["kind"] == "ClusterTrainingRuntime"]
    ((_, pod, _),) = pod_specs(runtime)
    for variable in pod["containers"][0]["env"]:
        if "value" in variable:
            monkeypatch.setenv(variable["name"], variable["value"])
    seconds = LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=1).shutdown_timeout
    assert 30 < seconds < pod["terminationGracePeriodSeconds"] == defaults("imagewright")["trainingRuntime"]["gracePeriodSeconds"]


def test_what_has_several_pods_lets_one_go_at_a_time() -> None:
    rendered = manifests("imagewright", "annotation")
    budgets = {one["metadata"]["name"] for one in rendered if one["kind"] == "PodDisruptionBudget" and one["spec"]["maxUnavailable"] == 1}
    assert budgets == {one["metadata"]["name"] for one in rendered if one["kind"] == "Deployment"}


def test_a_queue_is_open_to_the_namespaces_of_pipeline_steps() -> None:
    rendered = manifests("imagewright", "training")
    (cluster_queue,) = [one for one in rendered if one["kind"] == "ClusterQueue"]
    (expression,) = cluster_queue["spec"]["namespaceSelector"]["matchExpressions"]
    local = [one for one in rendered if one["kind"] == "LocalQueue"]
    assert {one["metadata"]["namespace"] for one in local} == set(expression["values"]) == {NAMESPACE, "kubeflow-user"}
    assert {one["metadata"]["name"] for one in local} == {"training"}
    assert {one["spec"]["clusterQueue"] for one in local} == {cluster_queue["metadata"]["name"]}
