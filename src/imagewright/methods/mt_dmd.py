"""Multi-teacher distribution matching distillation, the second phase: rounds of fake-score updates and one student update each.

Sources: DMD (2311.18828), DMD2 (2405.14867), Decoupled DMD (2511.22677), DMDR (2511.13649); the committee is ERNIE-Image's (2605.25347).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from imagewright.config.distill import DistillConfig
from imagewright.data.prompt_loader import PromptBatch, TurnCounter
from imagewright.diffusion.backward_simulation import Rollout
from imagewright.diffusion.flow_matching import TIMESTEP_SCALE, add_noise, recover_x0, velocity_target
from imagewright.losses.distribution_matching import (
    distribution_matching_gradient,
    dynamic_guidance,
    generator_loss,
    guidance_augmentation_gradient,
    normaliser,
    renoise_concentrations,
    sample_renoise_level,
)
from imagewright.losses.velocity import velocity_loss
from imagewright.methods.committee import AdapterTeacher, Committee
from imagewright.methods.folding import STUDENT, generator_of, roll_out, with_prompt
from imagewright.models.adapters import activate
from imagewright.models.dit import ErnieImageDiT
from imagewright.models.packing import Pack
from imagewright.training.method import PlainMethod, StepOutput

FAKE = "fake"


@dataclass(frozen=True)
class StudentGradients:
    """Per-sample directions [C, h, w] in which a clean sample should not go, and the pack of the samples they are for."""

    dm: list[Tensor]
    ca: list[Tensor]


class MtDmdMethod(PlainMethod):
    """Student and fake score, taught by a committee."""

    def __init__(
        self,
        student: ErnieImageDiT,
        fake: ErnieImageDiT,
        committee: Committee,
        empty_prompt: Tensor,
        config: DistillConfig,
        counter: TurnCounter,
        *,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        """fake: a network of its own, or the committee's base with the adapter `fake` (matching.fake says which)."""
        self.student, self.fake, self.committee = student, fake, committee
        self.empty_prompt, self.config, self.counter = empty_prompt.float(), config, counter
        self.seed, self.device = seed, device
        self.rollout: tuple[int, Rollout] | None = None
        self.student_updates, self.critic_updates, self.rollbacks = 0, 0, 0
        self.losses: dict[str, float] = {}

    def networks(self) -> dict[str, nn.Module]:
        """Student and fake score."""
        return {STUDENT: self.student, FAKE: self.fake}

    def train_step(self, batch: PromptBatch, step: int) -> StepOutput:
        """The last turn of a round is the student's, the others are the fake score's."""
        if batch.turn < self.config.matching.critic_updates_per_student:
            output = self.critic_step(batch)
            self.critic_updates += 1
        else:
            output = self.student_step(batch)
            self.student_updates += 1
            # From here on the student is another one; a later turn would simulate it anew.
            self.rollout = None
        self.losses |= {name: float(loss.detach()) for name, loss in output.losses.items()}
        return output

    def trajectory(self, batch: PromptBatch) -> Rollout:
        """The round's rollout. A resumed run simulates it again: the student does not change inside a round, so it is the same."""
        if self.rollout is None or self.rollout[0] != batch.number:
            self.rollout = (batch.number, roll_out(self.student, batch, self.config, self.device, self.num_steps(batch)))
        return self.rollout[1]

    def num_steps(self, batch: PromptBatch) -> int:
        """Steps of the round's rollout: the configured numbers in turn."""
        numbers = self.config.matching.rollout_steps or (self.config.num_student_steps,)
        return numbers[batch.number % len(numbers)]

    def critic_step(self, batch: PromptBatch) -> StepOutput:
        """Flow matching of the fake score on what is matched: the student's final samples, or its clean predictions at random steps."""
        rollout, generator = self.trajectory(batch), generator_of(self.seed, "critic", batch)
        steps = self.random_steps(rollout, generator)
        clean = rollout.final if self.config.matching.target == "samples" else rollout.clean_at(steps)
        noised, noise = self.renoise(rollout.pack, clean, self.dm_levels(len(batch.sizes), generator), generator)
        loss = velocity_loss(self.fake_velocity(noised), velocity_target(clean, noise), noised).mean()
        return StepOutput({FAKE: loss}, {"mt_dmd/critic_loss": loss})

    def student_step(self, batch: PromptBatch) -> StepOutput:
        """0.5 |x - stopgrad(x - gradient)|^2 by one random step of each sample's trajectory.

        With target `samples` x is the final sample, and its gradient reaches the step's clean prediction as if later steps passed it on
        unchanged (a straight-through estimate): the distribution matched is the one that is shipped. With `predictions` x is the clean
        prediction itself, as DMD2 has it; before a student is straight, those of noisy steps are means, which no data distribution holds.
        """
        rollout, generator = self.trajectory(batch), generator_of(self.seed, "student", batch)
        steps = self.random_steps(rollout, generator)
        pack, matching = rollout.at(steps), self.config.matching
        clean = recover_x0(pack.image_tokens, self.student(pack).float(), pack.spread(rollout.sigmas[steps]))
        if matching.target == "samples":
            clean = rollout.final + (clean - clean.detach())
        gradients = self.gradients(pack, clean.detach(), rollout.sigmas[steps], batch.domains, generator)
        losses = [
            generator_loss(sample, matching.dm_weight * dm + matching.ca_weight * ca)
            for sample, dm, ca in zip(pack.unpack(clean), gradients.dm, gradients.ca, strict=True)
        ]
        sizes = {
            name: float(torch.stack([part.square().mean() for part in parts]).mean().sqrt()) for name, parts in vars(gradients).items()
        }
        loss = torch.stack(losses).mean()
        return StepOutput({STUDENT: loss}, {"mt_dmd/student_loss": loss, "mt_dmd/dm_size": sizes["dm"], "mt_dmd/ca_size": sizes["ca"]})

    @torch.no_grad()
    def gradients(self, pack: Pack, clean: Tensor, levels: Tensor, domains: Sequence[str], generator: torch.Generator) -> StudentGradients:
        """DM and CA. clean: [N, C]; levels [B]: the student's steps.

        Decoupled, each has its own noise level and normaliser. Shared, CA takes DM's noised samples and both are divided by the distance
        to the guided prediction: their sum is the coupled guided gradient of DMD.
        """
        shared = self.config.matching.renoising == "shared"
        dm_pack, _ = self.renoise(pack, clean, self.dm_levels(len(pack), generator), generator)
        with self.dynamic_teacher():
            real = self.committee.clean(dm_pack, domains, "DM")
        fake = recover_x0(dm_pack.image_tokens, self.fake_velocity(dm_pack).float(), dm_pack.spread(dm_pack.timesteps / TIMESTEP_SCALE))
        ca_pack = dm_pack if shared else self.renoise(pack, clean, self.ca_levels(levels, generator), generator)[0]
        negative = with_prompt(ca_pack, self.empty_prompt.to(self.device))
        conditional, unconditional = self.committee.clean_pair(ca_pack, negative, domains, "CA")
        jitter = self.config.matching.guidance_jitter * (2.0 * float(torch.rand((), generator=generator)) - 1.0)
        scale = max(1.0, self.config.guidance_scale + jitter)
        dm, ca = distribution_matching_gradient(real, fake), guidance_augmentation_gradient(conditional, unconditional, scale)
        near_dm, near_ca = (real - ca, real - ca) if shared else (real, conditional)
        samples = pack.unpack(clean)
        return StudentGradients(
            dm=normalised(samples, pack.unpack(near_dm), pack.unpack(dm)), ca=normalised(samples, pack.unpack(near_ca), pack.unpack(ca))
        )

    def dynamic_teacher(self) -> Blend:
        """The fake adapter speaks inside the real score at a scale that falls to 0 (DMDR's dynamic guidance)."""
        matching = self.config.matching
        scale = dynamic_guidance(self.counter.round, matching.dynamic_guidance_start, matching.dynamic_guidance_rounds)
        return Blend([teacher for teacher in self.committee.teachers.values() if isinstance(teacher, AdapterTeacher)], scale)

    def fake_velocity(self, pack: Pack) -> Tensor:
        """Velocity of the fake score, [N, C]; its adapter is switched on where it shares the teachers' base."""
        if self.config.matching.fake == "lora":
            activate(self.fake, FAKE)
        velocity: Tensor = self.fake(pack)
        return velocity

    def renoise(self, pack: Pack, clean: Tensor, levels: Tensor, generator: torch.Generator) -> tuple[Pack, Tensor]:
        """Noise of its own at levels [B]: the noised pack and the noise [N, C]."""
        noise = torch.randn(clean.shape, generator=generator).to(clean.device)
        return pack.replace_image_tokens(add_noise(clean, noise, pack.spread(levels)), levels * TIMESTEP_SCALE), noise

    def random_steps(self, rollout: Rollout, generator: torch.Generator) -> Tensor:
        """A step of the rollout for each sample, [B]."""
        return torch.randint(len(rollout.states), (len(rollout.pack),), generator=generator).to(self.device)

    def dm_levels(self, count: int, generator: torch.Generator) -> Tensor:
        """Renoise levels of DM and of the fake score, [B]: over the whole range, at first the noisier part."""
        matching = self.config.matching
        concentrations = renoise_concentrations(self.counter.round, matching.renoise_rounds, matching.renoise_start)
        levels = [sample_renoise_level(concentrations, matching.dm_low, matching.dm_high, generator) for _ in range(count)]
        return torch.tensor(levels, device=self.device)

    def ca_levels(self, levels: Tensor, generator: torch.Generator) -> Tensor:
        """Renoise levels of CA, [B]: less noisy than the student's own step."""
        low = min(self.config.matching.ca_low, float(levels.min()))
        return low + (levels - low) * torch.rand(len(levels), generator=generator).to(self.device)

    def state(self) -> dict[str, Tensor]:
        """Turns done, updates of each network, roll-backs, and who taught what."""
        counts = [self.counter.steps, self.student_updates, self.critic_updates, self.rollbacks]
        return {"counts": torch.tensor(counts), "taught": self.committee.taught.clone()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes them back; the rollout is simulated again when it is needed."""
        steps, self.student_updates, self.critic_updates, self.rollbacks = (int(value) for value in state["counts"])
        self.counter.put_back(steps)
        self.committee.taught.copy_(state["taught"])
        self.rollout = None


class Blend:
    """Context in which adapter teachers speak together with the fake adapter."""

    def __init__(self, teachers: Sequence[AdapterTeacher], scale: float) -> None:
        self.teachers, self.scale = teachers, scale

    def __enter__(self) -> None:
        for teacher in self.teachers:
            teacher.blend = (FAKE, self.scale) if self.scale > 0.0 else None

    def __exit__(self, *_: object) -> None:
        for teacher in self.teachers:
            teacher.blend = None


def normalised(samples: Sequence[Tensor], real: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[Tensor]:
    """Each gradient [C, h, w] divided by its sample's mean distance to the teacher's prediction."""
    return [gradient / normaliser(sample, near) for sample, near, gradient in zip(samples, real, gradients, strict=True)]
