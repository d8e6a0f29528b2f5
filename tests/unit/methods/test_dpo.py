"""Preference training starts at ln 2, moves the way the pairs point, and refuses a foreign reference."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from pair_cases import write_model, write_set

from imagewright.config.dpo import DpoConfig
from imagewright.data.latents import LatentsDataset
from imagewright.data.pair_loader import PairBatch, read_batch
from imagewright.data.preferences import index_of, read_pairs
from imagewright.methods.dpo import DpoMethod, NotTheParentError, UnhealthyPolicyError, draw_pairs, unhealthy
from imagewright.models.adapters import attach
from imagewright.models.diffusers_adapter import load_transformer
from imagewright.models.dit import ErnieImageDiT

LOSSES = DpoConfig(beta=0.05)


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> PairBatch:
    folder = write_set(tmp_path_factory.mktemp("pairs"), num=4)
    dataset, pairs = LatentsDataset(folder), read_pairs(folder)
    return read_batch(dataset, index_of(dataset), pairs, range(len(pairs)))


@pytest.fixture
def policy(tmp_path: Path) -> ErnieImageDiT:
    return load_transformer(write_model(tmp_path / "m") / "transformer")


def moved(policy: ErnieImageDiT) -> ErnieImageDiT:
    other = copy.deepcopy(policy)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return other


def test_at_the_reference_the_loss_is_ln_2_and_the_anchors(policy: ErnieImageDiT, batch: PairBatch) -> None:
    method = DpoMethod(policy, copy.deepcopy(policy), LOSSES)
    output = method.train_step(batch, 0)
    measured = method.measure(batch, *draw_pairs(batch, LOSSES))
    anchors = 0.35 * measured.policy[0].mean() + 0.15 * measured.policy[1].mean()
    torch.testing.assert_close(measured.loss.preference, torch.full((4,), math.log(2)))
    assert output.losses["transformer"].item() == pytest.approx(math.log(2) + float(anchors), rel=1e-5)
    assert float(output.metrics["dpo/implicit_accuracy"]) == 0.5
    assert float(output.metrics["dpo/reference_distance"]) == 0.0


def test_an_adapter_is_its_own_reference(policy: ErnieImageDiT, batch: PairBatch) -> None:
    adapted = copy.deepcopy(policy)
    attach(adapted, "dpo", rank=4, alpha=8.0)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.05)
    method = DpoMethod(adapted, None, LOSSES)
    sigmas, noise = draw_pairs(batch, LOSSES)
    measured = method.measure(batch, sigmas, noise)
    base = DpoMethod(policy, copy.deepcopy(policy), LOSSES).measure(batch, sigmas, noise)
    torch.testing.assert_close(measured.reference[0], base.policy[0])
    assert not torch.allclose(measured.policy[0], measured.reference[0])
    assert all("lora_" in name for name, parameter in adapted.named_parameters() if parameter.requires_grad)


def test_swapping_the_pair_flips_the_margin(policy: ErnieImageDiT, batch: PairBatch) -> None:
    method = DpoMethod(policy, copy.deepcopy(policy), LOSSES)
    method.policy = moved(policy)
    swapped = PairBatch(batch.rejected, batch.chosen, batch.prompt_embeds, batch.noise_seeds, batch.pair_ids)
    sigmas, noise = draw_pairs(batch, LOSSES)
    margin = method.measure(batch, sigmas, noise).loss.margin
    assert margin.abs().min() > 0
    torch.testing.assert_close(method.measure(swapped, sigmas, noise).loss.margin, -margin, rtol=1e-3, atol=1e-4)


def rejected_change(policy: ErnieImageDiT, batch: PairBatch, config: DpoConfig) -> float:
    """Change of the rejected error after one small step down the loss."""
    method = DpoMethod(copy.deepcopy(policy), copy.deepcopy(policy), config)
    sigmas, noise = draw_pairs(batch, config)
    before = method.measure(batch, sigmas, noise)
    before.loss.total.mean().backward()
    gradients = [parameter.grad for parameter in method.policy.parameters() if parameter.grad is not None]
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
    with torch.no_grad():
        for parameter in method.policy.parameters():
            if parameter.grad is not None:
                parameter.sub_(1e-3 * parameter.grad / norm)
    after = method.measure(batch, sigmas, noise)
    return float(after.policy[1].mean() - before.policy[1].mean())


def test_sum_raises_the_rejected_error_and_the_same_reduction_lowers_it(policy: ErnieImageDiT, batch: PairBatch) -> None:
    assert rejected_change(policy, batch, LOSSES) > 0
    alike = LOSSES.model_copy(update={"dpo_reduction": "mean"})
    assert rejected_change(policy, batch, alike) < 0
    with pytest.raises(ValueError, match="no preference is learned"):
        DpoConfig(dpo_reduction="mean", anchor_reduction="mean")


def test_a_reference_that_is_not_the_parent_is_refused(policy: ErnieImageDiT) -> None:
    with pytest.raises(NotTheParentError, match="parent"):
        DpoMethod(policy, moved(policy), LOSSES)


def test_both_members_get_one_noise_and_one_level(policy: ErnieImageDiT, batch: PairBatch) -> None:
    same = PairBatch(batch.chosen, batch.chosen, batch.prompt_embeds, batch.noise_seeds, batch.pair_ids)
    measured = DpoMethod(policy, copy.deepcopy(policy), LOSSES).measure(same, *draw_pairs(same, LOSSES))
    torch.testing.assert_close(measured.policy[0], measured.policy[1])


@pytest.mark.parametrize(
    ("chosen", "rejected", "says"),
    [
        (0.049, -0.03, ""),
        (0.051, -0.03, "chosen error drifted"),
        (-0.051, 0.03, "chosen error drifted"),
        (0.019, 0.5, ""),
        (0.021, 0.021, "rose together"),
        (-0.021, -0.021, "fell together"),
        (-0.021, 0.021, ""),
        (float("nan"), 0.0, "not finite"),
    ],
)
def test_health_has_sharp_limits(chosen: float, rejected: float, says: str) -> None:
    found = {"chosen_error_drift": chosen, "rejected_error_drift": rejected}
    reason = unhealthy(found, LOSSES)
    assert says in reason and bool(says) == bool(reason)


def test_a_check_stops_a_policy_that_drifted(policy: ErnieImageDiT, batch: PairBatch) -> None:
    method = DpoMethod(policy, copy.deepcopy(policy), LOSSES, [batch])
    healthy = method.validate(0)
    assert healthy["dpo/held_out_implicit_accuracy"] == 0.5
    assert healthy["validation/loss"] == pytest.approx(math.log(2))
    with torch.no_grad():
        policy.final_linear.bias.add_(1.0)
    with pytest.raises(UnhealthyPolicyError, match="drifted"):
        method.validate(1)
