"""The velocity loss against numbers worked out by hand."""

from __future__ import annotations

import torch

from imagewright.losses.velocity import mean_over_samples, velocity_loss
from imagewright.models.packing import pack_samples


def test_every_sample_is_a_mean_of_its_own_whatever_its_size() -> None:
    pack = pack_samples([torch.zeros(2, 1, 1), torch.zeros(2, 1, 3)], [torch.zeros(1, 4)] * 2, torch.zeros(2))
    velocity = torch.tensor([[1.0, 3.0], [2.0, 0.0], [0.0, 0.0], [0.0, 4.0]])
    losses = velocity_loss(velocity, torch.zeros(4, 2), pack)
    assert torch.allclose(losses, torch.tensor([5.0, 20.0 / 6.0]))


def test_the_difference_is_taken_in_fp32() -> None:
    pack = pack_samples([torch.zeros(1, 1, 1)], [torch.zeros(1, 4)], torch.zeros(1))
    loss = velocity_loss(torch.tensor([[256.0]]).bfloat16(), torch.tensor([[255.5]]), pack)
    assert loss.dtype == torch.float32
    assert float(loss) == 0.25


def test_stand_ins_do_not_count_and_a_batch_of_stand_ins_gives_zero_with_a_gradient() -> None:
    losses = torch.tensor([2.0, 8.0], requires_grad=True)
    assert mean_over_samples(losses, torch.tensor([1.0, 0.0])).item() == 2.0
    nothing = mean_over_samples(losses, torch.zeros(2))
    nothing.backward()
    assert nothing.item() == 0.0
    assert losses.grad is not None
