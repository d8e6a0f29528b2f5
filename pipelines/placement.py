"""The only place that attaches caching, retries, resources, node pools, secrets and queues to a task."""

from __future__ import annotations

from typing import Any

from kfp import kubernetes
from kfp.dsl import PipelineTask
from kfp.dsl.base_component import BaseComponent as Component

from imagewright.config.placement import JobClass, NodePool, PlacementConfig

# The labels Kubeflow puts on a step's pod: the run id reaches the job as its pipeline run.
RUN_ID_LABEL = "metadata.labels['pipeline/runid']"
# Keys of the platform chart's own secret (objectStore.existingSecret), so that one secret serves both.
CREDENTIALS = {"access-key-id": "AWS_ACCESS_KEY_ID", "secret-access-key": "AWS_SECRET_ACCESS_KEY"}
# The user of infra/images/Containerfile. The rest of the "restricted" standard is set by Kubeflow Pipelines for every step.
USER_ID = 10001
REGISTRY_URL = "IMAGEWRIGHT_REGISTRY_URL"
# Keys of the platform chart's ConfigMap: requests that are signed for another region than the bucket's are refused.
ENDPOINTS = (
    "IMAGEWRIGHT_STORE_URL",
    REGISTRY_URL,
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_REQUEST_CHECKSUM_CALCULATION",
    "AWS_RESPONSE_CHECKSUM_VALIDATION",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_S3_ENDPOINT_URL",
)
# Where the platform chart's own pods find the data registry (helm/imagewright/templates/_registry.tpl).
REGISTRY_PATH, GIT_PATH = "/registry", "/git"
GIT_SETTINGS = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "credential.helper",
    "GIT_CONFIG_VALUE_0": f"store --file={GIT_PATH}/git-credentials",
}


def place(task: PipelineTask, job_class: JobClass, placement: PlacementConfig) -> PipelineTask:
    """Places one task. KFP's cache stays off: what is done is decided by records in the store."""
    pool: NodePool = getattr(placement, job_class)
    task.set_caching_options(enable_caching=False)
    if pool.retries:
        task.set_retry(num_retries=pool.retries, backoff_duration="30s", backoff_factor=2.0)
    if pool.deadline_seconds:
        kubernetes.set_timeout(task, pool.deadline_seconds)
    set_resources(task, pool)
    set_node_pool(task, pool)
    set_queue(task, pool, placement)
    set_endpoints(task, placement)
    set_registry(task, placement)
    return task


def place_training(step: Component, launcher: Component, placement: PlacementConfig, **inputs: Any) -> PipelineTask:
    """Makes and places a training task: in its own pod, or as the launcher of a TrainJob where its job takes several nodes."""
    if placement.train_job.takes(step.name):
        return place_launcher(launcher(**inputs), placement)
    return place(step(**inputs), "train", placement)


def place_launcher(task: PipelineTask, placement: PlacementConfig) -> PipelineTask:
    """Places a task that launches a TrainJob: its pool goes to the nodes through `dsl.TaskConfig`, and its own pod holds no accelerator.

    The nodes wait in the queue and have the runtime's shared memory; the launcher needs neither.
    """
    task.set_caching_options(enable_caching=False)
    if placement.train.retries:
        task.set_retry(num_retries=placement.train.retries, backoff_duration="30s", backoff_factor=2.0)
    set_amounts(task, placement.train)
    set_node_pool(task, placement.train)
    set_endpoints(task, placement)
    return task


def set_resources(task: PipelineTask, pool: NodePool) -> None:
    """What a step's own pod gets."""
    set_amounts(task, pool)
    if pool.shared_memory:
        kubernetes.empty_dir_mount(task, volume_name="shm", mount_path="/dev/shm", medium="Memory", size_limit=pool.shared_memory)  # noqa: S108 - a pod-local mount


def set_amounts(task: PipelineTask, pool: NodePool) -> None:
    """Requests equal limits, so that a pod is never evicted for what it was promised."""
    if pool.cpu:
        task.set_cpu_request(pool.cpu).set_cpu_limit(pool.cpu)
    if pool.memory:
        task.set_memory_request(pool.memory).set_memory_limit(pool.memory)
    if pool.accelerator:
        task.set_accelerator_type(pool.accelerator).set_accelerator_limit(pool.num_accelerators)


def set_node_pool(task: PipelineTask, pool: NodePool) -> None:
    """Selector and tolerations of the pool."""
    for key, value in pool.node_selector.items():
        kubernetes.add_node_selector(task, key, value)
    for toleration in pool.tolerations:
        kubernetes.add_toleration(task, toleration.key, toleration.operator, toleration.value or None, toleration.effect)


def set_queue(task: PipelineTask, pool: NodePool, placement: PlacementConfig) -> None:
    """The queue that a step's own pod waits in, and its priority there."""
    if placement.queue:
        kubernetes.add_pod_label(task, "kueue.x-k8s.io/queue-name", placement.queue)
    if pool.priority_class:
        kubernetes.add_pod_label(task, "kueue.x-k8s.io/priority-class", pool.priority_class)


def set_endpoints(task: PipelineTask, placement: PlacementConfig) -> None:
    """The env contract on a cluster: a ConfigMap, a Secret and the run id from the pod's labels; and a user that is not root.

    Both are optional to the kubelet: a pod that misses one starts, and its job ends at once naming the variable that is not set; a pod
    held back for it would wait without an end. Where steps cannot reach the data registry they are not told of it, and their payloads
    stay uncommitted.
    """
    reaches_registry = placement.registry_claim or placement.registry_secret
    names = {name: name for name in ENDPOINTS if name != REGISTRY_URL or reaches_registry}
    if placement.environment_config_map:
        kubernetes.use_config_map_as_env(task, placement.environment_config_map, names, optional=True)
        kubernetes.use_field_path_as_env(task, "IMAGEWRIGHT_PIPELINE_RUN", RUN_ID_LABEL)
        kubernetes.set_security_context(task, run_as_user=USER_ID, run_as_group=USER_ID, run_as_non_root=True)
    if placement.credentials_secret:
        kubernetes.use_secret_as_env(task, placement.credentials_secret, CREDENTIALS, optional=True)


def set_registry(task: PipelineTask, placement: PlacementConfig) -> None:
    """The data registry's volume, or git's credentials for a hosted one, where the endpoints' address expects them.

    Not for launchers: nodes have both from the training runtime, and a launcher reads no data set.
    """
    if placement.registry_claim:
        kubernetes.mount_pvc(task, placement.registry_claim, REGISTRY_PATH)
    if placement.registry_secret:
        kubernetes.use_secret_as_volume(task, placement.registry_secret, GIT_PATH, optional=True)
        for name, value in GIT_SETTINGS.items():
            task.set_env_variable(name, value)
