"""What placement puts on a step: endpoints, credentials, the data registry and ends, and what happens when one of them is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fixtures.train_request import SETTINGS, placement
from helm.charts import manifests

from imagewright.config import Config, load_recipe
from imagewright.config.placement import PlacementConfig
from imagewright.errors import InputError
from imagewright.jobs.frame import run_job
from imagewright.launch.pipelines import compile_pipeline
from imagewright.launch.policy import pod_specs


def executors(pipeline: str, settings: PlacementConfig) -> dict[str, dict[str, Any]]:
    compiled = compile_pipeline(pipeline, load_recipe("debug").model_copy(update={"placement": settings}))
    assert compiled.platform is not None
    found = compiled.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for name, executor in found.items():
        executor["env"] = compiled.spec["deploymentSpec"]["executors"][name]["container"].get("env", [])
    return found


def test_a_pod_does_not_wait_for_a_config_map_or_secret_that_is_missing() -> None:
    for name, executor in executors("pretraining", placement()).items():
        assert [one["optional"] for one in (*executor["configMapAsEnv"], *executor["secretAsEnv"])] == [True, True], name


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({}, r"IMAGEWRIGHT_STORE_URL: must be set.*placement\.environment_config_map"),
        ({"IMAGEWRIGHT_STORE_URL": "s3://imagewright/"}, r"AWS_ACCESS_KEY_ID: must be set.*placement\.credentials_secret"),
    ],
)
def test_its_job_then_ends_at_once_and_names_what_to_look_at(environ: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        run_job("ingest-raw", Config(), {}, tmp_path / "record.json", environ)


def test_steps_mount_the_registry_where_the_charts_address_points() -> None:
    (contract,) = [one for one in manifests("imagewright", "training") if one["metadata"]["name"].endswith("contract")]
    found = executors("data_curation", placement(registry_claim="registry"))
    for executor in found.values():
        (mounted,) = executor["pvcMount"]
        assert (mounted["constant"], mounted["mountPath"]) == ("registry", "/registry")
        assert contract["data"]["IMAGEWRIGHT_REGISTRY_URL"].startswith(f"{mounted['mountPath']}/")


def test_steps_have_the_credentials_of_a_hosted_registry_as_the_charts_pods_have_them() -> None:
    rendered = manifests("imagewright", "annotation")
    pods = [pod for one in rendered if one["metadata"]["name"].endswith("annotation") for _, pod, _ in pod_specs(one)]
    (container,) = pods[0]["containers"]
    wanted = {one["name"]: one["value"] for one in container["env"] if one["name"].startswith("GIT_")}
    (mount,) = [one for one in container["volumeMounts"] if one["name"] == "registry"]
    for executor in executors("data_curation", placement(registry_claim="", registry_secret="git")).values():
        (secret,) = executor["secretAsVolume"]
        assert (secret["secretName"], secret["mountPath"]) == ("git", mount["mountPath"])
        assert {one["name"]: one["value"] for one in executor["env"] if one["name"].startswith("GIT_")} == wanted != {}


def test_a_launcher_reads_no_data_set() -> None:
    launcher = executors("pretraining", placement(registry_claim="registry"))["exec-pretrain-dit"]
    assert "pvcMount" not in launcher


def test_a_registry_on_a_volume_and_a_hosted_one_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="registry_claim contradicts registry_secret"):
        placement(registry_claim="registry", registry_secret="git")


def test_no_step_of_the_large_recipe_may_hang_for_ever() -> None:
    settings = load_recipe("ernie_8b").placement
    cluster = {"environment_config_map": "contract", "credentials_secret": "s3"}
    for name, executor in executors("end_to_end", settings.model_copy(update=cluster)).items():
        assert int(executor["activeDeadlineSeconds"]) > 0, name


def test_a_launcher_waits_in_the_queue_as_long_as_its_train_job_may() -> None:
    launcher = executors("pretraining", placement(train={**SETTINGS["train"], "deadline_seconds": 60}))["exec-pretrain-dit"]
    assert "activeDeadlineSeconds" not in launcher


def test_a_job_takes_several_nodes_where_the_placement_says_so() -> None:
    nodes = {**SETTINGS["train_job"], "jobs": ["align-dpo"]}
    settings = load_recipe("debug").model_copy(update={"placement": placement(train_job=nodes)})
    launchers = set()
    for pipeline in ("pretraining", "post_training"):
        components = compile_pipeline(pipeline, settings).spec["components"]
        launchers |= {name for name, one in components.items() if "taskConfigPassthroughs" in one}
    assert launchers == {"comp-align-dpo"}
