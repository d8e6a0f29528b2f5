"""Preference training: both members of a pair get the same noise at the same level, under the policy and its frozen reference."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from imagewright.config.dpo import DpoConfig
from imagewright.data.pair_loader import PairBatch
from imagewright.diffusion.timestep_sampling import sample_sigmas
from imagewright.errors import InputError, Problem
from imagewright.losses.dpo import DPOLoss, stabilised_dpo_loss
from imagewright.losses.velocity import velocity_loss
from imagewright.methods.pretrain import TRANSFORMER, noised_pack
from imagewright.models.adapters import base_only
from imagewright.models.dit import ErnieImageDiT
from imagewright.planning.flops import TRAINING_FACTOR, forward_flops
from imagewright.training.method import PlainMethod, StepOutput
from imagewright.training.world import World


class NotTheParentError(InputError):
    """A reference that is not the model the policy starts from."""


class UnhealthyPolicyError(RuntimeError):
    """A health check failed: the policy leaves the reference in a way that no preference asks for."""


@dataclass(frozen=True)
class Measured:
    """Errors of some pairs, all [B]: the loss, the reference's errors, and the squared distance of policy and reference velocities."""

    loss: DPOLoss
    policy: tuple[Tensor, Tensor]
    reference: tuple[Tensor, Tensor]
    distance: Tensor

    def health(self) -> dict[str, Tensor]:
        """Means over the pairs, drifts relative to the reference."""
        (chosen, rejected), (chosen_ref, rejected_ref) = self.policy, self.reference
        return {
            "implicit_accuracy": self.loss.implicit_accuracy.mean(),
            "margin": self.loss.margin.mean(),
            "preference_loss": self.loss.preference.mean(),
            "chosen_error_drift": chosen.mean() / chosen_ref.mean() - 1,
            "rejected_error_drift": rejected.mean() / rejected_ref.mean() - 1,
            "reference_distance": self.distance.mean(),
        }


class DpoMethod(PlainMethod):
    """Trains a policy against the frozen model it started from."""

    def __init__(
        self,
        policy: ErnieImageDiT,
        reference: ErnieImageDiT | None,
        config: DpoConfig,
        held_out: Sequence[PairBatch] = (),
        world: World | None = None,
        watched: str = "held_out",
    ) -> None:
        """reference None: the policy carries an adapter and is its own reference with the adapter off. watched: how the metrics call
        the pairs of the health checks; `trained` where a set is too small to hold any out.

        Raises NotTheParentError unless the reference is the policy's parent, weight for weight.
        """
        self.world = world or World()
        device = self.world.device
        if reference is not None:
            require_parent(policy, reference)
            reference = reference.to(device).eval().requires_grad_(False)
        self.policy, self.reference, self.config, self.held_out, self.device = policy, reference, config, held_out, device
        self.watched = watched

    def networks(self) -> dict[str, nn.Module]:
        """The policy."""
        return {TRANSFORMER: self.policy}

    def train_step(self, batch: PairBatch, step: int) -> StepOutput:
        """Mean stabilised loss of the batch's pairs, and their health."""
        sigmas, noise = draw_pairs(batch, self.config)
        measured = self.measure(batch, sigmas, noise)
        return StepOutput({TRANSFORMER: measured.loss.total.mean()}, {f"dpo/{name}": value for name, value in measured.health().items()})

    def measure(self, batch: PairBatch, sigmas: Tensor, noise: Sequence[Tensor]) -> Measured:
        """Policy and reference on both members of every pair. sigmas [B], noise B x [C, h, w]: one of each per pair."""
        latents, texts = [*batch.chosen, *batch.rejected], [*batch.prompt_embeds] * 2
        pack, target = noised_pack(latents, texts, sigmas.repeat(2), [*noise, *noise])
        pack, target = pack.to(self.device), target.to(self.device)
        velocity = self.policy(pack)
        with torch.no_grad(), self.as_reference():
            frozen = (self.reference or self.policy)(pack)
        policy, reference = velocity_loss(velocity, target, pack), velocity_loss(frozen, target, pack)
        sizes = torch.tensor([latent.numel() for latent in batch.chosen], dtype=torch.float32, device=policy.device)
        num = len(batch)
        pairs, pairs_ref = (policy[:num], policy[num:]), (reference[:num], reference[num:])
        loss = stabilised_dpo_loss(
            pairs,
            pairs_ref,
            sizes,
            beta=self.config.beta,
            lambda_win=self.config.lambda_win,
            lambda_lose=self.config.lambda_lose,
            dpo_reduction=self.config.dpo_reduction,
            anchor_reduction=self.config.anchor_reduction,
        )
        distance = velocity_loss(velocity.detach(), frozen, pack)
        return Measured(loss, (pairs[0].detach(), pairs[1].detach()), pairs_ref, (distance[:num] + distance[num:]) / 2)

    def as_reference(self) -> AbstractContextManager[None]:
        """Inside, the policy is its own reference where it has no frozen copy."""
        return nullcontext() if self.reference is not None else base_only(self.policy)

    def validate(self, step: int) -> dict[str, float]:
        """Health on held-out pairs at fixed noise levels with fixed noise; `validation/loss` is the preference loss there.

        Raises UnhealthyPolicyError, in every process alike, when the policy drifts beyond the configured limits.
        """
        if not self.held_out:
            return {}
        found = self.world.all_from_first(self.held_out_health())
        reason = unhealthy(found, self.config)
        if reason:
            raise UnhealthyPolicyError(reason)
        return {"validation/loss": found["preference_loss"], **{f"dpo/{self.watched}_{name}": value for name, value in found.items()}}

    @torch.no_grad()
    def held_out_health(self) -> dict[str, float]:
        """Means over all held-out pairs and levels. The accuracy is that of the margins averaged over levels, ties 0.5."""
        levels = self.config.check_levels
        margins, losses, errors, distances = [], [], [], []
        for batch in self.held_out:
            noise = draw_pairs(batch, self.config)[1]
            parts = [self.measure(batch, torch.full((len(batch),), (level + 0.5) / levels), noise) for level in range(levels)]
            margins.append(torch.stack([part.loss.margin for part in parts]).mean(0))
            losses.append(torch.stack([part.loss.preference for part in parts]).mean(0))
            errors.append(torch.stack([torch.stack([*part.policy, *part.reference]) for part in parts]).mean(0))
            distances.append(torch.stack([part.distance for part in parts]).mean(0))
        margin, (chosen, rejected, chosen_ref, rejected_ref) = torch.cat(margins), torch.cat(errors, dim=1).mean(dim=1)
        return {
            "implicit_accuracy": float(((margin > 0).float() + 0.5 * (margin == 0).float()).mean()),
            "margin": float(margin.mean()),
            "preference_loss": float(torch.cat(losses).mean()),
            "chosen_error_drift": float(chosen / chosen_ref - 1),
            "rejected_error_drift": float(rejected / rejected_ref - 1),
            "reference_distance": float(torch.cat(distances).mean()),
        }

    def step_flops(self, batch: PairBatch) -> float:
        """Forward and backward of the policy, forward of the reference, on both members."""
        sizes = zip(batch.chosen, batch.prompt_embeds, strict=True)
        once = sum(forward_flops(self.policy.config, image.shape[1] * image.shape[2], text.shape[0]) for image, text in sizes)
        return 2 * (TRAINING_FACTOR + 1) * once


def unhealthy(found: dict[str, float], config: DpoConfig) -> str:
    """Why the policy must not go on; empty when it is healthy."""
    chosen, rejected = found["chosen_error_drift"], found["rejected_error_drift"]
    if not all(abs(value) < float("inf") for value in (chosen, rejected)):
        return "the errors on held-out pairs are not finite"
    if abs(chosen) > config.max_chosen_drift:
        return f"the chosen error drifted by {chosen:+.2%}, more than {config.max_chosen_drift:.0%}"
    if min(chosen, rejected) > config.max_joint_drift:
        return f"both errors rose together: chosen {chosen:+.2%}, rejected {rejected:+.2%}"
    if max(chosen, rejected) < -config.max_joint_drift:
        return f"both errors fell together: chosen {chosen:+.2%}, rejected {rejected:+.2%}"
    return ""


def draw_pairs(batch: PairBatch, config: DpoConfig) -> tuple[Tensor, list[Tensor]]:
    """Noise level [B] and noise B x [C, h, w] of every pair, from the pair's own seed."""
    sigmas, noise = [], []
    for latent, seed in zip(batch.chosen, batch.noise_seeds, strict=True):
        generator = torch.Generator().manual_seed(seed)
        sigmas.append(sample_sigmas([latent.shape[1] * latent.shape[2]], config.timesteps, generator))
        noise.append(torch.randn(latent.shape, generator=generator))
    return torch.cat(sigmas), noise


def require_sampled_from(sampled_from: str, reference_digest: str) -> None:
    """Raises NotTheParentError when pairs name another model than the reference: what they prefer is not between samples of this policy."""
    if sampled_from and sampled_from != reference_digest:
        rule = f"must be sampled from the policy's parent and reference, {reference_digest}"
        fix = "build pairs with this model as the input sft, or align the model they were sampled from"
        raise NotTheParentError(Problem("preferences.sampled_from", rule, sampled_from, fix))


def require_parent(policy: nn.Module, reference: nn.Module) -> None:
    """Raises NotTheParentError unless both hold the same weights: Diff_ref of another model is no reference for this policy."""
    mine, theirs = dict(policy.named_parameters()), dict(reference.named_parameters())
    names = sorted({*mine, *theirs})
    different = [name for name in names if name not in mine or name not in theirs or not torch.equal(mine[name].cpu(), theirs[name].cpu())]
    if different:
        fix = "take the weights the policy starts from as its reference"
        raise NotTheParentError(Problem("dpo.reference", "must be the policy's parent", different[:5], fix))
