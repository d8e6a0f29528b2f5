"""Recipe -> Kubeflow TrainJob: a pure function from what a training step asks for to the object the Trainer runs.

Built from the models of `kubeflow-trainer-api`, so an unknown field cannot be written. The pod itself (image, contract, security)
comes from the platform chart's runtime; here stands only what differs from run to run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubeflow_trainer_api import models

from imagewright.config.placement import NodePool, PlacementConfig
from imagewright.errors import Problem
from imagewright.launch.cluster_api import ClusterError

Tree = dict[str, Any]
API_VERSION = "trainer.kubeflow.org/v1alpha1"
MANAGER = "imagewright.io/launcher"
WORK_VOLUME, WORK_PATH = "shared-work", "/shared"
JOB_LABEL, KEY_LABEL, RUN_LABEL = "imagewright.io/job", "imagewright.io/action-key", "imagewright.io/pipeline-run"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
PRIORITY_LABEL = "kueue.x-k8s.io/priority-class"
TOPOLOGY_ANNOTATIONS = {True: "kueue.x-k8s.io/podset-required-topology", False: "kueue.x-k8s.io/podset-preferred-topology"}
RESERVED_PREFIX = "PET_"  # the Trainer sets these itself and refuses a job that does
KEY_CHARS = 16
MAX_LABEL = 63


@dataclass(frozen=True)
class PodPlacement:
    """What Kubeflow Pipelines would have given the step's own pod, handed on to the nodes (`dsl.TaskConfig`)."""

    env: Sequence[Mapping[str, Any]] = ()
    tolerations: Sequence[Mapping[str, Any]] = ()
    node_selector: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainRequest:
    """One training step. key: its action key [64 hex]; attempt: 0, then one more for each resume after a preemption."""

    job: str
    key: str
    pipeline_run: str = ""
    attempt: int = 0
    image: str = ""
    """Worker image by digest; empty takes the runtime's."""
    git_commit: str = ""

    @property
    def name(self) -> str:
        """Name of the TrainJob: equal for equal work, so a second launcher finds the first one's."""
        return f"{self.job}-{self.key[:KEY_CHARS]}-{self.attempt}"


def build_train_job(request: TrainRequest, placement: PlacementConfig, pod: PodPlacement | None = None) -> Tree:
    """The TrainJob of a request, as the API takes it. Placement handed on by the pipeline wins over the recipe's pool.

    Raises ClusterError for requests the Trainer would refuse later.
    """
    settings, pool = placement.train_job, placement.train
    handed = pod or pool_placement(pool)
    check_environment(handed)
    labels = {JOB_LABEL: request.job, KEY_LABEL: request.key[:MAX_LABEL]}
    if request.pipeline_run:
        labels[RUN_LABEL] = request.pipeline_run[:MAX_LABEL].rstrip("-._")
    if placement.queue:
        labels[QUEUE_LABEL] = placement.queue
    if pool.priority_class:
        labels[PRIORITY_LABEL] = pool.priority_class
    trainer = models.TrainerV1alpha1Trainer.from_dict(
        {
            "image": request.image or None,
            "command": ["python", "-m", "torch.distributed.run"],
            "args": ["-m", "imagewright.jobs.node", request.key],
            "env": environment(request, handed),
            "numNodes": settings.num_nodes,
            "numProcPerNode": pool.num_accelerators or 1,
            "resourcesPerNode": dict(handed.resources) or None,
        }
    )
    built = models.TrainerV1alpha1TrainJob(
        apiVersion=API_VERSION,
        kind="TrainJob",
        metadata=models.IoK8sApimachineryPkgApisMetaV1ObjectMeta(name=request.name, labels=labels),
        spec=models.TrainerV1alpha1TrainJobSpec(
            runtimeRef=models.TrainerV1alpha1RuntimeRef(
                name=settings.runtime, kind="ClusterTrainingRuntime", apiGroup=API_VERSION.partition("/")[0]
            ),
            trainer=trainer,
            runtimePatches=[models.TrainerV1alpha1RuntimePatch.from_dict(runtime_patch(placement, handed))],
        ),
    )
    plain: Tree = without_empty(built.to_dict())
    return plain


def environment(request: TrainRequest, pod: PodPlacement) -> list[Tree]:
    """Environment of each node: what the step had, then what every node of this job must agree on."""
    own = {
        "IMAGEWRIGHT_PIPELINE_RUN": request.pipeline_run,
        "IMAGEWRIGHT_GIT_COMMIT": request.git_commit,
        "IMAGEWRIGHT_IMAGE": request.image,
        "IMAGEWRIGHT_WORK": f"{WORK_PATH}/work",
    }
    handed = [dict(variable) for variable in pod.env if variable.get("name") not in own]
    return [*handed, *({"name": name, "value": value} for name, value in own.items() if value)]


def check_environment(pod: PodPlacement) -> None:
    """Refuses variables that belong to the Trainer."""
    taken = sorted(str(variable["name"]) for variable in pod.env if str(variable.get("name", "")).startswith(RESERVED_PREFIX))
    if taken:
        fix = "drop them: nodes and processes come from placement.train_job"
        raise ClusterError(Problem("train_job.env", f"must not set {RESERVED_PREFIX}* variables, the Trainer's own", ", ".join(taken), fix))


def runtime_patch(placement: PlacementConfig, pod: PodPlacement) -> Tree:
    """Differences from the runtime's pod: where it may run, and the shared volume."""
    settings = placement.train_job
    spec: Tree = {"nodeSelector": dict(pod.node_selector), "tolerations": [dict(one) for one in pod.tolerations]}
    if settings.work_claim:
        spec["volumes"] = [{"name": WORK_VOLUME, "persistentVolumeClaim": {"claimName": settings.work_claim}}]
        spec["containers"] = [{"name": "node", "volumeMounts": [{"name": WORK_VOLUME, "mountPath": WORK_PATH}]}]
    template: Tree = {"spec": spec}
    if settings.topology:
        template["metadata"] = {"annotations": {TOPOLOGY_ANNOTATIONS[settings.topology_required]: settings.topology}}
    replicated = {"name": "node", "template": {"spec": {"template": template}}}
    return {"manager": MANAGER, "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [replicated]}}}}


def pool_placement(pool: NodePool) -> PodPlacement:
    """Placement from the recipe, where no pipeline step hands its own on."""
    amounts: Tree = {name: value for name, value in (("cpu", pool.cpu), ("memory", pool.memory)) if value}
    if pool.accelerator and pool.num_accelerators:
        amounts[pool.accelerator] = str(pool.num_accelerators)
    tolerations = [{name: value for name, value in one.model_dump().items() if value} for one in pool.tolerations]
    resources = {"requests": amounts, "limits": amounts} if amounts else {}
    return PodPlacement(tolerations=tolerations, node_selector=pool.node_selector, resources=resources)


def without_empty(node: Any) -> Any:
    """Drops absent and empty parts, so that what is sent is what is meant."""
    if isinstance(node, Mapping):
        kept = {key: without_empty(value) for key, value in node.items()}
        return {key: value for key, value in kept.items() if value not in (None, {}, [])}
    if isinstance(node, list):
        return [without_empty(value) for value in node]
    return getattr(node, "actual_instance", node)
