"""Section `placement`: where each class of job runs. Read by pipelines/placement.py alone; a laptop ignores all of it."""

from __future__ import annotations

from typing import Literal, Self, get_args

from pydantic import Field, model_validator

from imagewright.config.base import Section
from imagewright.config.train_job import TrainJobConfig

JobClass = Literal["control", "data", "train", "evaluate"]


class Toleration(Section):
    """A taint the pods of a pool accept."""

    key: str
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str = ""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"


class NodePool(Section):
    """Resources and node pool of one class of jobs."""

    cpu: str = Field(default="", pattern=r"^(\d+m?)?$")
    """CPU request and limit, as Kubernetes writes it; empty leaves it to the namespace."""
    memory: str = Field(default="", pattern=r"^(\d+(Ki|Mi|Gi))?$")
    """Memory request and limit."""
    accelerator: str = ""
    """Resource name of the accelerator, for example nvidia.com/gpu; empty for none."""
    num_accelerators: int = Field(default=0, ge=0, le=16)
    """Accelerators per pod."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels of the node pool."""
    tolerations: tuple[Toleration, ...] = ()
    shared_memory: str = Field(default="", pattern=r"^(\d+(Mi|Gi))?$")
    """Size of /dev/shm (data-loader workers, NCCL); empty keeps the runtime's 64 MiB."""
    retries: int = Field(default=0, ge=0, le=10)
    """Retries of a failed pod. A retry costs only what is missing: finished work is found by its record."""
    deadline_seconds: int = Field(default=0, ge=0)
    """Longest life of a step's pod from when a node takes it, so that a missing secret or a stuck step ends as a failure; 0 for no end.
    Not for steps that launch a TrainJob, which wait in the queue: those have `train_job.schedule_deadline_seconds`."""
    priority_class: str = Field(default="", pattern=r"^([a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?)?$")
    """Kueue priority of the pods, one of the platform chart's `queues.priorityClasses`; needs `queue`. Empty takes the lowest, 0."""


class PlacementConfig(Section):
    """Node pools by job class, and what every pod gets."""

    control: NodePool = NodePool()
    data: NodePool = NodePool()
    train: NodePool = NodePool()
    evaluate: NodePool = NodePool()
    environment_config_map: str = ""
    """ConfigMap with the endpoints of the env contract; empty on a laptop, where jobs inherit them."""
    credentials_secret: str = ""
    """Secret with keys `access-key-id` and `secret-access-key`, by reference: the platform chart's `objectStore.existingSecret`."""
    registry_claim: str = ""
    """PersistentVolumeClaim of the data registry, mounted at /registry: the platform chart's own with `registry.mode=volume`. It must be
    in the namespace of the steps. Without it and `registry_secret` no dataset is committed."""
    registry_secret: str = ""
    """Secret with git's credentials for a hosted data registry, by reference: the platform chart's `registry.git.existingSecret`."""
    queue: str = ""
    """Kueue local queue of the pods; empty for none."""
    score_slices: int = Field(default=1, ge=1, le=64)
    """Steps that score the pool side by side before curate-manifest decides; each costs three pods. 1 leaves it to curate-manifest."""
    train_job: TrainJobConfig = TrainJobConfig()
    """Training on several nodes."""

    @model_validator(mode="after")
    def priorities_have_a_queue(self) -> Self:
        """Refuses a priority without the queue that would read it."""
        named = [pool for pool in get_args(JobClass) if getattr(self, pool).priority_class]
        if named and not self.queue:
            raise ValueError(f"{', '.join(f'{pool}.priority_class' for pool in named)} needs queue: priorities are read by Kueue alone")
        return self
