"""The root of the configuration: one section per stage, in the order of the data flow."""

from __future__ import annotations

from typing import Self

from pydantic import Field, ValidationError, model_validator

from imagewright.config.aes import AesConfig
from imagewright.config.alignment import AlignmentConfig
from imagewright.config.base import Section
from imagewright.config.curation import CurationConfig
from imagewright.config.data import DataConfig
from imagewright.config.distill import DistillConfig
from imagewright.config.docker import DockerConfig
from imagewright.config.dpo import DpoConfig
from imagewright.config.drift import DriftConfig
from imagewright.config.enhancer import EnhancerConfig
from imagewright.config.evaluation import EvaluationConfig
from imagewright.config.gate import GateConfig
from imagewright.config.kubeflow import KubeflowConfig
from imagewright.config.latents import EncodingConfig
from imagewright.config.model import ModelConfig
from imagewright.config.placement import PlacementConfig
from imagewright.config.preferences import PreferencesConfig
from imagewright.config.pretrain import PretrainConfig
from imagewright.config.rollout import RolloutConfig
from imagewright.config.serving import ServingConfig
from imagewright.config.sft import SftConfig
from imagewright.config.text_encoder import TextEncoderConfig
from imagewright.config.training import TrainingConfig
from imagewright.config.vae import VaeConfig


class Config(Section):
    """The resolved configuration of a pipeline run. A recipe holds deviations from these defaults."""

    name: str = Field(default="default", pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    """Name of the recipe; tags every run made with it."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Root of every random stream; each job derives its own stream from it and its job name."""
    threads: int = Field(default=0, ge=0, le=1024)
    """CPU threads of a job's numeric libraries; 0 takes the machine's cores. Fixed where runs must be bitwise repeatable."""
    data: DataConfig = DataConfig()
    """Sources of the raw pool and its shards."""
    curation: CurationConfig = CurationConfig()
    """Scores, filters, duplicates, categories and the sampling mix."""
    aes: AesConfig = AesConfig()
    """The aesthetic model: its backbone, its ratings, its training."""
    vae: VaeConfig = VaeConfig()
    """The autoencoder: trained on the corpus, or a released one."""
    text_encoder: TextEncoderConfig = TextEncoderConfig()
    """What turns prompts into embeddings."""
    latents: EncodingConfig = EncodingConfig()
    """Encoding of the curated data, bucket by bucket."""
    model: ModelConfig = ModelConfig()
    """Shape of the DiT that pretraining starts from; every later stage reads it from the weights it is given."""
    training: TrainingConfig = TrainingConfig()
    """Engine, optimizer, checkpoints and guards shared by every method."""
    pretrain: PretrainConfig = PretrainConfig()
    """Stages of base training."""
    gate: GateConfig = GateConfig()
    """What a model must show before it becomes champion."""
    sft: SftConfig = SftConfig()
    """Top-down domains, supervised fine-tuning and domain experts."""
    preferences: PreferencesConfig = PreferencesConfig()
    """Preference pairs from the SFT model's own samples."""
    dpo: DpoConfig = DpoConfig()
    """Stabilised preference training on those pairs."""
    alignment: AlignmentConfig = AlignmentConfig()
    """The independent judgement that decides whether the aligned model goes on."""
    distill: DistillConfig = DistillConfig()
    """The few-step student and its teachers."""
    drift: DriftConfig = DriftConfig()
    """What distillation cost, by domain and skill."""
    enhancer: EnhancerConfig = EnhancerConfig()
    """The language model that expands short prompts."""
    serving: ServingConfig = ServingConfig()
    """The bundle's sampler and the limits of the image server."""
    rollout: RolloutConfig = RolloutConfig()
    """How a promotion reaches the servers of a cluster."""
    placement: PlacementConfig = PlacementConfig()
    """Node pools, accelerators and secrets of each class of jobs."""
    kubeflow: KubeflowConfig = KubeflowConfig()
    """Where `--on kfp` runs."""
    docker: DockerConfig = DockerConfig()
    """How `--on docker` runs."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """How models are sampled and scored."""

    @model_validator(mode="after")
    def check_pretraining(self) -> Self:
        """Refuses an optimizer of base training that the engine, or another setting of `training`, rules out."""
        try:
            self.pretrain.training_of(self.training)
        except ValidationError as error:
            raise ValueError(f"pretrain: {error.errors()[0]['msg']}") from error
        return self
