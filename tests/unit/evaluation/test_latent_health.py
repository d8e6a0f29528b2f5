"""The numbers a student's health is read from, worked out by hand."""

from __future__ import annotations

import pytest
import torch

from imagewright.evaluation.latent_health import contrast, detail, diversity, energy_distance, ratios, saturation


def test_measures_of_a_checkerboard() -> None:
    board = torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]])
    assert float(contrast(board)) == 1.0
    assert float(saturation(board)) == 1.0
    assert float(detail(board)) == 2.0
    assert float(detail(torch.ones(3, 1, 1))) == 0.0


def test_diversity_is_the_distance_between_samples_of_one_prompt() -> None:
    near, far = torch.zeros(1, 2, 2), torch.full((1, 2, 2), 3.0)
    assert diversity([[near, far], [near, near]]) == 1.5
    assert diversity([[near]]) == 0.0


def test_a_student_equal_to_its_teacher_has_ratios_of_one_and_a_flat_one_shows() -> None:
    teacher = [
        [torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(seed)) for seed in (number, number + 9)] for number in range(3)
    ]
    assert all(value == pytest.approx(1.0) for value in ratios(teacher, teacher).values())
    flat = [[0.1 * latent for latent in group] for group in teacher]
    assert all(value == pytest.approx(0.1) for value in ratios(flat, teacher).values())


def test_energy_distance_of_two_points_and_of_one_distribution() -> None:
    first, second = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [3.0]])
    # between: (1 + 3 + 1 + 1) / 4 = 1.5; within: 2 and 2
    assert energy_distance(first, second) == pytest.approx(2 * 1.5 - 2 - 2)
    draws = [torch.randn(400, 2, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    assert abs(energy_distance(*draws)) < 0.02
    assert energy_distance(draws[0], draws[1] + 1.0) > 0.2
