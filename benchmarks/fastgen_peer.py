"""The peer of fastgen_comparison.py: FastGen's own DMD2 train step on our tiny network and our draws.

Needs FastGen's folder on the path. A module of its own, so that nothing else imports it.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
from fastgen.methods import DMD2Model
from fastgen.networks.network import FastGenNetwork
from fastgen.utils.logging_utils import logger
from point_teacher import NO_LABEL, START, Draw, Networks, PointVelocity
from torch import Tensor

logger.remove()  # it reports the building of every model


class Network(FastGenNetwork):
    """Our network in FastGen's interface; FastGen converts its velocity."""

    def __init__(self) -> None:
        super().__init__(net_pred_type="flow", schedule_type="rf")
        self.body = PointVelocity()

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor, fwd_pred_type: str = "flow") -> Tensor:
        velocity = self.body(x_t, t.to(x_t.dtype), condition)
        return self.noise_scheduler.convert_model_output(x_t, velocity, t, src_pred_type="flow", target_pred_type=fwd_pred_type)


class GivenDraws(DMD2Model):
    """DMD2 whose random numbers come from outside."""

    draw: Draw

    def _generate_noise_and_time(self, real_data: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        start = torch.full((len(real_data),), START, dtype=torch.float64)
        return self.draw.start, start, self.draw.level.double(), self.draw.noise


class FastGenArm:
    """FastGen's losses. prediction: space of its fake-score loss, `flow` (the network's own, its default) or `x0` (its Flux setting)."""

    def __init__(self, networks: Networks, guidance: float, prediction: str = "flow") -> None:
        self.model = GivenDraws(settings(None if guidance == 1.0 else guidance, prediction))
        self.student, self.critic = self.model.net.body, self.model.fake_score.body
        for mine, given in ((self.student, networks.student), (self.critic, networks.critic), (self.model.teacher.body, networks.teacher)):
            mine.load_state_dict(given.state_dict())

    def critic_loss(self, draw: Draw) -> Tensor:
        """The loss of an update of the fake score."""
        return self.loss(draw, iteration=1)

    def student_loss(self, draw: Draw) -> Tensor:
        """The loss of an update of the student."""
        return self.loss(draw, iteration=0)

    def loss(self, draw: Draw, iteration: int) -> Tensor:
        """FastGen's train step: the student's at iterations divisible by its `student_update_freq`, else the fake score's."""
        self.model.draw = draw
        # Real points would be for the discriminator alone.
        data = {"real": torch.zeros_like(draw.start), "condition": draw.label, "neg_condition": torch.full_like(draw.label, NO_LABEL)}
        losses, _ = self.model.single_train_step(data, iteration)
        return losses["total_loss"]


def settings(guidance: float | None, prediction: str) -> SimpleNamespace:
    """The fields that DMD2 reads. A plain object, because FastGen's own settings classes import every network it has."""
    return SimpleNamespace(
        net={"_target_": Network},
        teacher=None,
        input_shape=[2, 1, 1],
        device="cpu",
        precision="float32",
        precision_amp=None,
        precision_amp_infer=None,
        precision_amp_enc=None,
        precision_fsdp=None,
        use_ema=False,
        fsdp_meta_init=False,
        add_teacher_to_fsdp_dict=False,
        pretrained_model_path="",
        pretrained_student_net_path="",
        load_student_weights=False,
        guidance_scale=guidance,
        skip_layers=None,
        student_update_freq=2,
        student_sample_steps=1,
        gan_loss_weight_gen=0.0,
        gan_r1_reg_weight=0.0,
        fake_score_pred_type=prediction,
    )
