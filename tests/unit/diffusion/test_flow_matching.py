"""Hand numbers of the flow-matching convention."""

from __future__ import annotations

import torch

from imagewright.diffusion.flow_matching import add_noise, euler_step, recover_noise, recover_x0, timestep_of, velocity_target

X0, NOISE, SIGMA = torch.tensor([[2.0, -1.0]]), torch.tensor([[0.0, 3.0]]), torch.tensor([[0.25]])


def test_noised_latent_and_velocity_by_hand() -> None:
    assert add_noise(X0, NOISE, SIGMA).tolist() == [[1.5, 0.0]]
    assert velocity_target(X0, NOISE).tolist() == [[-2.0, 4.0]]
    assert timestep_of(SIGMA).tolist() == [[250.0]]


def test_ends_of_the_path_are_data_and_noise() -> None:
    assert torch.equal(add_noise(X0, NOISE, torch.zeros(1, 1)), X0)
    assert torch.equal(add_noise(X0, NOISE, torch.ones(1, 1)), NOISE)


def test_the_true_velocity_recovers_data_and_noise() -> None:
    x_t, velocity = add_noise(X0, NOISE, SIGMA), velocity_target(X0, NOISE)
    torch.testing.assert_close(recover_x0(x_t, velocity, SIGMA), X0)
    torch.testing.assert_close(recover_noise(x_t, velocity, SIGMA), NOISE)


def test_an_euler_step_moves_along_the_velocity() -> None:
    assert euler_step(torch.tensor([1.0]), torch.tensor([2.0]), 0.75, 0.25).tolist() == [0.0]


def test_one_step_of_the_true_velocity_lands_on_the_data() -> None:
    torch.testing.assert_close(euler_step(NOISE, velocity_target(X0, NOISE), 1.0, 0.0), X0)
