"""A training step asks for nodes: what the Trainer is sent, valid against its own schema, and the pod it makes of it."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml
from fixtures.train_request import REQUEST, SETTINGS, placement
from helm.charts import manifests
from jsonschema import Draft202012Validator
from kfp import compiler

from imagewright.config import load_recipe
from imagewright.launch.cluster_api import ClusterError
from imagewright.launch.ir import parse_ir
from imagewright.launch.pipelines import compile_pipeline
from imagewright.launch.policy import check_manifests
from imagewright.launch.train_job import PodPlacement, TrainRequest, build_train_job

GOLDEN = Path(__file__).parent / "golden" / "train_job.yaml"
SCHEMAS_VARIABLE = "IMAGEWRIGHT_CRD_SCHEMAS"


def schema(name: str) -> dict[str, Any]:
    (version,) = yaml.safe_load((Path(os.environ[SCHEMAS_VARIABLE]) / name).read_text())["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]


def test_the_train_job_is_the_golden_one() -> None:
    assert build_train_job(REQUEST, placement()) == yaml.safe_load(GOLDEN.read_text())


def test_the_trainer_accepts_it_by_its_own_schema() -> None:
    if not os.environ.get(SCHEMAS_VARIABLE):
        warnings.warn(
            f"{SCHEMAS_VARIABLE} names no folder of CRDs: the TrainJob was checked against the Trainer's models only", stacklevel=1
        )
        return
    for pod in (None, PodPlacement(env=[{"name": "A", "value": "b"}])):
        problems = list(
            Draft202012Validator(schema("trainer.kubeflow.org_trainjobs.yaml")).iter_errors(build_train_job(REQUEST, placement(), pod))
        )
        assert problems == []


def test_the_pod_on_a_node_passes_the_policy() -> None:
    runtime = next(one for one in manifests("imagewright", "training") if one["kind"] == "ClusterTrainingRuntime")
    built = build_train_job(REQUEST, placement())
    pod = json.loads(json.dumps(runtime["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]))
    patch = built["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"][
        "template"
    ]
    (container,) = pod["spec"]["containers"]
    assert container["name"] == patch["spec"]["containers"][0]["name"]
    container["volumeMounts"] += patch["spec"]["containers"][0]["volumeMounts"]
    container["image"] = built["spec"]["trainer"]["image"]
    container["resources"] = built["spec"]["trainer"]["resourcesPerNode"]
    pod["spec"]["volumes"] += patch["spec"]["volumes"]
    assert check_manifests([{"kind": "Pod", "metadata": {"name": "node"}, **pod}]) == []


def test_placement_handed_on_by_the_pipeline_wins() -> None:
    env = [
        {"name": "AWS_ACCESS_KEY_ID", "valueFrom": {"secretKeyRef": {"name": "s3", "key": "AWS_ACCESS_KEY_ID"}}},
        {"name": "IMAGEWRIGHT_PIPELINE_RUN", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['pipeline/runid']"}}},
    ]
    pod = PodPlacement(env=env, node_selector={"pool": "other"}, resources={"limits": {"nvidia.com/gpu": "4"}})
    trainer = build_train_job(REQUEST, placement(), pod)["spec"]["trainer"]
    assert trainer["resourcesPerNode"] == {"limits": {"nvidia.com/gpu": "4"}}
    names = [variable["name"] for variable in trainer["env"]]
    assert len(names) == len(set(names))
    # The label of a step's pod is not on a node: the run's id is written out.
    assert {"name": "IMAGEWRIGHT_PIPELINE_RUN", "value": "run-1"} in trainer["env"]
    assert trainer["env"][0]["valueFrom"]["secretKeyRef"]["name"] == "s3"


def test_equal_work_has_one_name_and_each_resume_its_own() -> None:
    assert REQUEST.name == f"pretrain-dit-{'ab' * 8}-0"
    assert TrainRequest("pretrain-dit", "ab" * 32, "another-run").name == REQUEST.name
    assert TrainRequest("pretrain-dit", "ab" * 32, attempt=3).name.endswith("-3")


def test_a_required_topology_is_required() -> None:
    settings = {**SETTINGS["train_job"], "topology_required": True}
    text = json.dumps(build_train_job(REQUEST, placement(train_job=settings)))
    assert "podset-required-topology" in text
    assert "preferred" not in text


def test_variables_of_the_trainer_are_refused() -> None:
    with pytest.raises(ClusterError, match=r"must not set PET_\* variables.*PET_NNODES"):
        build_train_job(REQUEST, placement(), PodPlacement(env=[{"name": "PET_NNODES", "value": "3"}]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"num_nodes": 2}, "work_claim must be set"), ({"topology_required": True}, "topology_required needs topology")],
)
def test_contradictions_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        placement(train_job=settings)


def test_the_launching_step_holds_no_accelerator_and_hands_its_placement_on(tmp_path: Path) -> None:
    from imagewright_pipelines.pretraining import build

    compiled = {}
    for nodes in (1, 2):
        path = tmp_path / f"{nodes}.yaml"
        compiler.Compiler().compile(build(placement(train_job={**SETTINGS["train_job"], "num_nodes": nodes})), str(path))
        compiled[nodes] = parse_ir(path.read_text())
        assert compiled[nodes].jobs() == ["pretrain-dit"]
    component = compiled[2].spec["components"]["comp-pretrain-dit"]
    fields = {one["field"]: one.get("applyToTask", False) for one in component["taskConfigPassthroughs"]}
    assert fields == {"RESOURCES": False, "KUBERNETES_TOLERATIONS": False, "KUBERNETES_NODE_SELECTOR": False, "ENV": True}
    assert component["inputDefinitions"]["parameters"]["task_config"] == {"isOptional": True, "parameterType": "TASK_CONFIG"}
    executor = compiled[2].spec["deploymentSpec"]["executors"]["exec-pretrain-dit"]
    assert executor["container"]["resources"]["accelerator"]["resourceCount"] == "8"
    assert compiled[2].platform is not None
    assert "kueue" not in json.dumps(compiled[2].platform)
    assert "taskConfigPassthroughs" not in compiled[1].spec["components"]["comp-pretrain-dit"]
    assert "kueue" in json.dumps(compiled[1].platform)


def test_every_step_reads_the_whole_contract_of_the_platform_chart() -> None:
    (contract,) = [one for one in manifests("imagewright", "external") if one["metadata"]["name"].endswith("contract")]
    compiled = compile_pipeline("pretraining", load_recipe("debug").model_copy(update={"placement": placement()}))
    assert compiled.platform is not None
    for executor in compiled.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
        (used,) = executor["configMapAsEnv"]
        assert {one["configMapKey"] for one in used["keyToEnv"]} == set(contract["data"])


def test_each_steps_pod_waits_with_the_priority_of_its_pool() -> None:
    one_node = {**SETTINGS["train_job"], "num_nodes": 1}
    compiled = compile_pipeline("pretraining", load_recipe("debug").model_copy(update={"placement": placement(train_job=one_node)}))
    assert compiled.platform is not None
    executors = compiled.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    labels = {name: executor.get("podMetadata", {}).get("labels", {}) for name, executor in executors.items()}
    assert {one["kueue.x-k8s.io/queue-name"] for one in labels.values()} == {"training"}
    assert labels["exec-pretrain-dit"]["kueue.x-k8s.io/priority-class"] == "research"
    assert labels["exec-write-report"]["kueue.x-k8s.io/priority-class"] == "release"


@pytest.mark.parametrize(("num_nodes", "deadlines"), [(1, {3600, 86400}), (2, {3600, None})])
def test_every_step_but_a_launcher_ends_by_its_deadline(num_nodes: int, deadlines: set[int | None]) -> None:
    nodes = {**SETTINGS["train_job"], "num_nodes": num_nodes}
    compiled = compile_pipeline("pretraining", load_recipe("debug").model_copy(update={"placement": placement(train_job=nodes)}))
    assert compiled.platform is not None
    executors = compiled.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values()
    assert {None if one.get("activeDeadlineSeconds") is None else int(one["activeDeadlineSeconds"]) for one in executors} == deadlines


def test_a_priority_without_a_queue_is_refused() -> None:
    with pytest.raises(ValueError, match=r"control.priority_class, train.priority_class needs queue"):
        placement(queue="")


def test_every_step_on_a_cluster_runs_as_the_images_user_with_the_charts_secret() -> None:
    compiled = compile_pipeline("pretraining", load_recipe("debug").model_copy(update={"placement": placement()}))
    assert compiled.platform is not None
    executors = compiled.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert len(executors) == len(compiled.spec["deploymentSpec"]["executors"])
    for executor in executors.values():
        assert executor["securityContext"] == {"runAsUser": "10001", "runAsGroup": "10001", "runAsNonRoot": True}
        (secret,) = executor["secretAsEnv"]
        keys = {one["secretKey"]: one["envVar"] for one in secret["keyToEnv"]}
        assert keys == {"access-key-id": "AWS_ACCESS_KEY_ID", "secret-access-key": "AWS_SECRET_ACCESS_KEY"}
