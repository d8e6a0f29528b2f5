"""The kustomizations: each parses, refers to what exists or to a pinned version, and the README and constraints name the same versions."""

from __future__ import annotations

import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from helm.charts import defaults

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "infra" / "k8s"
KUSTOMIZATIONS = sorted(K8S.rglob("kustomization.yaml"))
REMOTE = re.compile(r"https://github\.com/(?P<repository>[\w.-]+/[\w.-]+?)(?://[\w./-]+)?\?ref=(?P<version>v?\d+\.\d+\.\d+)")


def resources(path: Path) -> list[str]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))["resources"]


def versions() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path in KUSTOMIZATIONS:
        for remote in filter(None, map(REMOTE.fullmatch, resources(path))):
            found.setdefault(remote["repository"], set()).add(remote["version"])
    return found


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=lambda path: str(path.parent.relative_to(K8S)))
def test_every_resource_exists_or_is_a_pinned_release(path: Path) -> None:
    for resource in resources(path):
        assert REMOTE.fullmatch(resource) or (path.parent / resource).exists(), resource


def test_every_project_has_one_version_and_the_readme_names_it() -> None:
    readme = (K8S / "README.md").read_text(encoding="utf-8")
    for repository, found in versions().items():
        assert len(found) == 1, repository
        assert f"| {next(iter(found))} |" in readme, repository


def test_operators_have_the_versions_of_our_clients() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").replace("_", "-").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    assert versions()["kubeflow/pipelines"] == {pins["kfp"]}
    assert versions()["kubeflow/trainer"] == {f"v{pins['kubeflow-trainer-api']}"}


def test_the_namespace_refuses_pods_that_are_not_restricted() -> None:
    documents = yaml.safe_load_all((K8S / "base" / "namespaces" / "namespaces.yaml").read_text(encoding="utf-8"))
    (namespace,) = [one for one in documents if one["kind"] == "Namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_claim_of_training_nodes_asks_for_the_class_that_both_overlays_make() -> None:
    claim = yaml.safe_load((K8S / "claims" / "training-work.yaml").read_text(encoding="utf-8"))
    kubernetes_validate.validate(claim, "1.33", strict=True)
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for overlay in ("cloud", "bare-metal"):
        made = yaml.safe_load_all((K8S / "overlays" / overlay / "storage-class.yaml").read_text(encoding="utf-8"))
        assert claim["spec"]["storageClassName"] in {one["metadata"]["name"] for one in made}


def test_prometheus_may_look_where_the_charts_are() -> None:
    role, binding = yaml.safe_load_all((K8S / "base" / "monitoring" / "access.yaml").read_text(encoding="utf-8"))
    assert role["metadata"]["namespace"] == binding["metadata"]["namespace"] == "imagewright"
    assert not any("*" in rule["verbs"] + rule["resources"] or "secrets" in rule["resources"] for rule in role["rules"])
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert defaults("imagewright")["networkPolicy"]["monitoringNamespace"] == binding["subjects"][0]["namespace"]
