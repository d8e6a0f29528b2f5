"""Checks of the Kubernetes cluster and of Kubeflow Pipelines, where they are configured."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from imagewright.doctor.finding import Finding, State

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

KUBEFLOW_VARIABLE = "KF_PIPELINES_ENDPOINT"  # the variable that kfp's own client reads
NAMESPACE_VARIABLE = "IMAGEWRIGHT_NAMESPACE"
IN_CLUSTER = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
REQUEST_SECONDS = (5.0, 10.0)
# API groups of what the charts and the training launcher create.
EXPECTED_GROUPS = {"trainer.kubeflow.org": "Kubeflow Trainer", "kueue.x-k8s.io": "Kueue"}


def check_kubernetes(environment: Mapping[str, str]) -> Finding:
    """Ask the API server for its version, for the API groups we use, and whether training jobs may be created."""
    named = environment.get("KUBECONFIG", "")
    if not named and not (Path.home() / ".kube" / "config").is_file() and not IN_CLUSTER.is_file():
        return Finding("kubernetes", State.skipped, "not set up", "set KUBECONFIG to train on a cluster")
    missing = [part for part in named.split(os.pathsep) if part and not Path(part).is_file()]
    if missing:
        return Finding("kubernetes", State.failed, f"KUBECONFIG names no file: {', '.join(missing)}", "correct KUBECONFIG")
    from kubernetes import client, config
    from kubernetes.config.config_exception import ConfigException
    from urllib3.exceptions import HTTPError

    try:
        if IN_CLUSTER.is_file() and not named:
            config.load_incluster_config()
            api = client.ApiClient()
        else:
            api = config.new_client_from_config(config_file=named or None)
        api.configuration.retries = 0
        server = client.VersionApi(api).get_code(_request_timeout=REQUEST_SECONDS).git_version
        groups = {group.name for group in client.ApisApi(api).get_api_versions(_request_timeout=REQUEST_SECONDS).groups}
        may_train = _may_create(api, environment.get(NAMESPACE_VARIABLE, "imagewright"))
    except client.ApiException as error:
        return Finding(
            "kubernetes", State.failed, f"the API server answered {error.status} {error.reason}", "renew the credentials of KUBECONFIG"
        )
    except (ConfigException, HTTPError, OSError) as error:
        return Finding("kubernetes", State.failed, str(error), "check KUBECONFIG, its context and the network")
    return judge_cluster(server, groups, may_train)


def judge_cluster(server: str, groups: set[str], may_train: bool) -> Finding:
    """Say what a cluster of this version, with these API groups and this permission, is good for."""
    absent = [title for group, title in EXPECTED_GROUPS.items() if group not in groups]
    if absent:
        return Finding("kubernetes", State.warning, f"{server} without {' and '.join(absent)}", "install them as infra/k8s describes")
    if not may_train:
        fix = "ask for the role of the control-plane service account in helm/imagewright"
        return Finding("kubernetes", State.warning, f"{server}, but TrainJobs may not be created in this namespace", fix)
    return Finding("kubernetes", State.ok, f"{server}, TrainJobs may be created")


def check_kubeflow(environment: Mapping[str, str]) -> Finding:
    """Ask Kubeflow Pipelines for its health."""
    url = environment.get(KUBEFLOW_VARIABLE, "").rstrip("/")
    if not url:
        return Finding("kubeflow", State.skipped, "not set up", f"set {KUBEFLOW_VARIABLE} to submit pipelines to a cluster")
    import urllib3

    timeout = urllib3.Timeout(connect=REQUEST_SECONDS[0], read=REQUEST_SECONDS[1])
    try:
        answer = urllib3.request("GET", f"{url}/apis/v2beta1/healthz", timeout=timeout, retries=False, redirect=False)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        return Finding("kubeflow", State.failed, f"{url}: {error}", f"correct {KUBEFLOW_VARIABLE} or open the way to it")
    if answer.status in (301, 302, 401, 403):
        return Finding("kubeflow", State.failed, f"{url} answered {answer.status}", "sign in: it asks for credentials")
    if answer.status != 200:
        return Finding("kubeflow", State.failed, f"{url} answered {answer.status}", "look at the ml-pipeline deployment")
    return Finding("kubeflow", State.ok, url)


def _may_create(api: ApiClient, namespace: str) -> bool:
    from kubernetes import client

    attributes = client.V1ResourceAttributes(group="trainer.kubeflow.org", resource="trainjobs", verb="create", namespace=namespace)
    review = client.V1SelfSubjectAccessReview(spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes))
    answer = client.AuthorizationV1Api(api).create_self_subject_access_review(review, _request_timeout=REQUEST_SECONDS)
    return bool(answer.status.allowed)
