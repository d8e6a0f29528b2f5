"""One pipeline, one TrainJob of two nodes and one promotion on a real cluster."""

from __future__ import annotations

import pytest
from kubernetes import client

from cluster.conftest import Installed
from imagewright.launch.kubeflow import RemoteRun
from imagewright.launch.rollout import GATEWAY, PAYLOAD_FLAG
from imagewright.launch.train_job_client import TRAINER

pytestmark = pytest.mark.cluster


def test_the_pipeline_succeeds(finished: RemoteRun) -> None:
    assert (finished.state, finished.error) == ("SUCCEEDED", "")


def test_pretraining_ran_on_two_nodes(installed: Installed, finished: RemoteRun) -> None:
    objects = client.CustomObjectsApi(installed.cluster.api)
    jobs = objects.list_namespaced_custom_object(**TRAINER, namespace=installed.space.name)["items"]
    (pretraining,) = [one for one in jobs if one["metadata"]["labels"]["imagewright.io/job"] == "pretrain-dit"]
    assert pretraining["spec"]["trainer"]["numNodes"] == 2
    assert "Complete" in {one["type"] for one in pretraining["status"]["conditions"] if one["status"] == "True"}


def test_the_promotion_reached_the_servers(installed: Installed, finished: RemoteRun) -> None:
    space, api = installed.space, installed.cluster.api
    where = {**GATEWAY, "namespace": space.name, "name": f"{space.serving}-route"}
    (rule,) = client.CustomObjectsApi(api).get_namespaced_custom_object(**where)["spec"]["rules"]
    weights = {one["name"]: one["weight"] for one in rule["backendRefs"]}
    assert weights == {f"{space.serving}-stable": 100, f"{space.serving}-canary": 0}
    stable, canary = (
        client.AppsV1Api(api).read_namespaced_deployment(f"{space.serving}-{one}", space.name) for one in ("stable", "canary")
    )
    assert stable.status.available_replicas
    tried = [one for one in canary.spec.template.spec.containers[0].args if one.startswith(PAYLOAD_FLAG)]
    assert tried != [f"{PAYLOAD_FLAG}imagewright://sha256/{'0' * 64}"]
