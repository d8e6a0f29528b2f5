"""Guidance folding, the first phase of distillation: the student learns the guided teacher's velocity on its own trajectory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from imagewright.config.distill import DistillConfig
from imagewright.data.packing_plan import stream
from imagewright.data.prompt_loader import PromptBatch, TurnCounter
from imagewright.diffusion.backward_simulation import Rollout, simulate
from imagewright.diffusion.flow_matching import TIMESTEP_SCALE
from imagewright.diffusion.guidance import guide
from imagewright.losses.velocity import velocity_loss
from imagewright.methods.committee import Committee
from imagewright.models.dit import ErnieImageDiT
from imagewright.models.packing import Pack, join_packs
from imagewright.training.method import PlainMethod, StepOutput

STUDENT = "student"


class FoldingMethod(PlainMethod):
    """Regresses the student to the guided committee."""

    def __init__(
        self,
        student: ErnieImageDiT,
        committee: Committee,
        empty_prompt: Tensor,
        config: DistillConfig,
        counter: TurnCounter,
        *,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        """empty_prompt: [T, D], the unconditional prompt of guidance."""
        self.student, self.committee, self.empty_prompt, self.config = student, committee, empty_prompt.float(), config
        self.counter, self.seed, self.device = counter, seed, device

    def networks(self) -> dict[str, nn.Module]:
        """The student."""
        return {STUDENT: self.student}

    def train_step(self, batch: PromptBatch, step: int) -> StepOutput:
        """One rollout; mean squared error to the guided velocity at some of its states."""
        rollout = roll_out(self.student, batch, self.config, self.device)
        generator = generator_of(self.seed, "folding", batch)
        count = min(self.config.folding.states_per_rollout, self.config.num_student_steps)
        # Different steps of one trajectory: a draw without replacement sees more of it than independent draws.
        steps = torch.rand(len(rollout.pack), self.config.num_student_steps, generator=generator).argsort(dim=1)[:, :count]
        pack = rollout.at(steps[:, 0].to(self.device))
        for number in range(1, count):
            pack = join_packs(pack, rollout.at(steps[:, number].to(self.device)))
        loss = velocity_loss(self.student(pack), self.guided_velocity(pack, batch.domains * count), pack).mean()
        return StepOutput({STUDENT: loss}, {"mt_dmd/folding_loss": loss})

    @torch.no_grad()
    def guided_velocity(self, pack: Pack, domains: Sequence[str]) -> Tensor:
        """(x_t - guided x0) / sigma, [N, C]: guidance commutes with the change of variable."""
        negative = with_prompt(pack, self.empty_prompt.to(self.device))
        conditional, unconditional = self.committee.clean_pair(pack, negative, domains, "CA")
        sigma = pack.spread(pack.timesteps / TIMESTEP_SCALE)
        return (pack.image_tokens - guide(conditional, unconditional, self.config.guidance_scale)) / sigma

    def state(self) -> dict[str, Tensor]:
        """Turns done and who taught what."""
        return {"steps": torch.tensor(self.counter.steps), "taught": self.committee.taught.clone()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes both back."""
        self.counter.put_back(int(state["steps"]))
        self.committee.taught.copy_(state["taught"])


def roll_out(student: ErnieImageDiT, batch: PromptBatch, config: DistillConfig, device: torch.device | str, num_steps: int = 0) -> Rollout:
    """The student's trajectory for a batch of prompts; num_steps 0 takes as many as it is exported with."""
    return simulate(
        student,
        batch.prompt_embeds,
        batch.sizes,
        batch.noise_seeds,
        channels=student.config.in_channels,
        num_steps=num_steps or config.num_student_steps,
        shift=config.shift,
        device=device,
    )


def generator_of(seed: int, phase: str, batch: PromptBatch) -> torch.Generator:
    """Random stream of one turn: nothing but seed, phase, prompts and turn decides it, so a resumed run draws the same."""
    name = stream(seed, phase, batch.number, batch.turn, *batch.noise_seeds)
    return torch.Generator().manual_seed(int(name.integers(0, 2**62)))


def with_prompt(pack: Pack, prompt: Tensor) -> Pack:
    """The same latents, every one with the same prompt [T, D]."""
    return Pack(pack.image_tokens, prompt.repeat(len(pack), 1), pack.timesteps, pack.sizes, (prompt.shape[0],) * len(pack))
