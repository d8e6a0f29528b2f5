"""The platform chart on a real cluster: what it needs is there, what it makes runs, an upgrade with equal values replaces no pod."""

from __future__ import annotations

import os
import time

import pytest
from helm.charts import folder
from helm_python import Config as Helm
from kubernetes import client

from cluster.conftest import Installed
from imagewright.doctor import State
from imagewright.doctor.installation import Installation

pytestmark = pytest.mark.cluster
SETTLE_SECONDS = 120


def pods(installed: Installed) -> set[str]:
    core = client.CoreV1Api(installed.cluster.api)
    found = core.list_namespaced_pod(installed.space.name, label_selector="app.kubernetes.io/component in (mlflow, seaweedfs, postgresql)")
    return {pod.metadata.name for pod in found.items}


def failed(installed: Installed) -> dict[str, str]:
    values = [installed.space.platform_values(), installed.space.serving_values()]
    findings = {one.name: one for one in Installation(installed.cluster, values).findings()}
    # Servers wait for their first champion.
    return {name: one.detail for name, one in findings.items() if one.state == State.failed and name != "pods"}


def test_the_cluster_lacks_nothing(installed: Installed) -> None:
    until = time.monotonic() + SETTLE_SECONDS
    while (problems := failed(installed)) and time.monotonic() < until:
        time.sleep(5)  # Kueue looks at a new queue in its own time
    assert problems == {}


def test_tracking_store_and_database_run(installed: Installed) -> None:
    assert len(pods(installed)) == 3


def test_an_upgrade_with_equal_values_replaces_no_pod(installed: Installed) -> None:
    before, space = pods(installed), installed.space
    with Helm(kubeconfig_path=os.environ["KUBECONFIG"], namespace=space.name) as helm:
        helm.upgrade(folder("imagewright"), space.name, space.platform_values(), namespace=space.name, wait="watcher", timeout=900)
    assert pods(installed) == before
