"""The cluster suite runs on the cluster that KUBECONFIG and an answers file name, or not at all: without them nothing counts as passed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pytest
from helm.charts import folder
from helm_python import Config as Helm

from cluster.answers import Answers, read_answers
from cluster.pipeline_run import submitted
from cluster.workspace import Workspace, wait_for_repository, workspace
from imagewright.config import load_recipe
from imagewright.errors import InputError
from imagewright.launch.cluster_api import ClusterApi, connect
from imagewright.launch.kubeflow import Kubeflow, RemoteRun
from imagewright.launch.pipelines import compile_pipeline

EXIT_REFUSED = 2
READY_SECONDS = 900


@dataclass(frozen=True)
class Installed:
    """Both charts on a cluster."""

    cluster: ClusterApi
    space: Workspace


@pytest.fixture(scope="session", autouse=True)
def answers() -> Answers:
    """What was said about the cluster; ends the whole run, as a failure, when it is not enough or the cluster does not answer."""
    from kubernetes import client

    try:
        found = read_answers(os.environ)
        cluster = replace(connect(), max_tries=2)
        cluster.call("version", client.VersionApi(cluster.api).get_code)
    except InputError as error:
        pytest.exit(f"the cluster suite did not run, nothing was tested:\n{error}", returncode=EXIT_REFUSED)
    return found


@pytest.fixture(scope="session")
def installed(answers: Answers) -> Iterator[Installed]:
    """The platform chart, ready, and the serving chart, which gets ready with its first champion."""
    cluster = connect()
    with workspace(cluster, answers) as space, ExitStack() as undo:
        helm = undo.enter_context(Helm(kubeconfig_path=os.environ["KUBECONFIG"], namespace=space.name))
        # Each by itself: what one of them does not give back must not keep the other's objects that lie in no namespace.
        for release in (space.name, space.serving):
            undo.callback(helm.uninstall, release, ignore_not_found=True, timeout=READY_SECONDS)
        platform = space.platform_values()
        helm.install(folder("imagewright"), space.name, platform, namespace=space.name, wait="watcher", timeout=READY_SECONDS)
        helm.install(folder("imagewright-serving"), space.serving, space.serving_values(), namespace=space.name)
        yield Installed(replace(cluster, namespace=space.name), space)


@pytest.fixture(scope="session")
def finished(installed: Installed) -> Iterator[RemoteRun]:
    """The whole graph at its smallest: pretraining as a TrainJob of two nodes, promotion through the canary."""
    space = installed.space
    config = load_recipe("debug", space.overrides())
    wait_for_repository(installed.cluster, space)
    kubeflow = Kubeflow(config.kubeflow)
    until = time.monotonic() + 60 * space.answers.deadline_minutes
    with submitted(kubeflow, compile_pipeline("end_to_end", config), config, space.name) as run_id:
        while not (state := kubeflow.look(run_id)).is_finished:
            if time.monotonic() > until:
                pytest.fail(f"run {run_id} did not end in {space.answers.deadline_minutes} minutes: {state.tasks}")
            time.sleep(10)
        yield state
