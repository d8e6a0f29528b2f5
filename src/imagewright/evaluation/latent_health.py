"""Health of a student in numbers: how its latents compare with the teacher's in spread, size, fine detail, diversity and distribution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MEASURES = ("contrast", "saturation", "detail")


def contrast(latent: Tensor) -> Tensor:
    """Standard deviation over space, mean over channels: [C, h, w] -> scalar."""
    return latent.flatten(1).std(dim=1, correction=0).mean()


def saturation(latent: Tensor) -> Tensor:
    """99th percentile of |x|: colours driven to their ends."""
    return torch.quantile(latent.abs().flatten(), 0.99)


def detail(latent: Tensor) -> Tensor:
    """Root mean square of differences between neighbours: high-frequency energy, where grid artefacts show. 0 for a single cell."""
    differences = [part.square().flatten() for part in (latent.diff(dim=1), latent.diff(dim=2)) if part.numel()]
    return torch.cat(differences).mean().sqrt() if differences else latent.new_zeros(())


def diversity(groups: Sequence[Sequence[Tensor]]) -> float:
    """Mean distance (root mean square) between samples of one prompt, over prompts with at least two."""
    found = [
        float((first - second).square().mean().sqrt())
        for group in groups
        for number, first in enumerate(group)
        for second in group[number + 1 :]
    ]
    return sum(found) / len(found) if found else 0.0


def ratios(student: Sequence[Sequence[Tensor]], teacher: Sequence[Sequence[Tensor]]) -> dict[str, float]:
    """Each measure of the student as a multiple of the teacher's; samples [prompts][seeds] of [C, h, w] from the same noise."""
    measures = {"contrast": contrast, "saturation": saturation, "detail": detail}
    found = {}
    for name, measure in measures.items():
        mine, theirs = (sum(float(measure(latent)) for group in side for latent in group) for side in (student, teacher))
        found[name] = mine / max(theirs, 1e-12) if theirs or mine else 1.0
    found["diversity"] = diversity(student) / max(diversity(teacher), 1e-12)
    return found


def energy_distance(first: Tensor, second: Tensor) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| between two samples [n, d] and [m, d]; 0 for equal distributions (Székely and Rizzo 2013).

    Unbiased: a point is not compared with itself, so equal distributions may give slightly negative values.
    """
    first, second = first.double(), second.double()
    between = torch.cdist(first, second).mean()
    within = [torch.pdist(part).mean() if len(part) > 1 else part.new_zeros(()) for part in (first, second)]
    return float(2 * between - within[0] - within[1])
