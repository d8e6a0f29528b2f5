"""Section `placement.train_job`: when training is more than one pod, the Kubeflow TrainJob that runs it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from imagewright.config.base import Section

NAME_PATTERN = r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)?$"


DistributedJob = Literal["pretrain-dit", "finetune-sft", "align-dpo"]


class TrainJobConfig(Section):
    """A TrainJob of the Kubeflow Trainer. With one node training runs in the pipeline step's own pod and none is made."""

    num_nodes: int = Field(default=1, ge=1, le=4096)
    """Nodes of one training run; each has the accelerators of `placement.train`. More than 1 launches a TrainJob."""
    jobs: tuple[DistributedJob, ...] = Field(default=("pretrain-dit",), min_length=1)
    """Which jobs take all of them; the others train in their step's own pod. Domain experts of `finetune-sft` grow on the first process
    alone while the others are idle; `dpo.pairs_per_step` must be a multiple of all processes for `align-dpo`."""
    runtime: str = Field(default="imagewright-torch", pattern=NAME_PATTERN, min_length=1)
    """ClusterTrainingRuntime that the platform chart made: `<release>-torch`."""
    namespace: str = Field(default="", pattern=NAME_PATTERN)
    """Namespace of the TrainJob; empty takes that of the launching pod."""
    work_claim: str = Field(default="", pattern=NAME_PATTERN)
    """ReadWriteMany claim that all nodes share: checkpoints outlive pods there, and each payload is downloaded once."""
    topology: str = ""
    """Node label within which Kueue should place all nodes, for example cloud.provider.com/rack; empty for anywhere."""
    topology_required: bool = False
    """Wait until one such place has room for all, rather than prefer it."""
    schedule_deadline_seconds: float = Field(default=3600.0, gt=0.0)
    """Longest wait for every node to run, queueing included; then the step fails and says what was missing."""
    max_resumes: int = Field(default=10, ge=0, le=1000)
    """Preempted runs are started again from their last checkpoint this often."""

    def takes(self, job: str) -> bool:
        """Whether a job runs on several nodes."""
        return self.num_nodes > 1 and job in self.jobs

    @model_validator(mode="after")
    def work_outlives_pods(self) -> Self:
        """Refuses several nodes without a place they share, and a required topology without its label."""
        if self.num_nodes > 1 and not self.work_claim:
            raise ValueError("work_claim must be set when num_nodes is more than 1: checkpoints are written by all nodes and outlive them")
        if self.topology_required and not self.topology:
            raise ValueError("topology_required needs topology: the label that all nodes must share")
        return self
