"""A second judge of composed scenes: a small network that learned from pixels what a scene holds.

It shares no code and no thresholds with the geometric judge, which ranks preference pairs; what that judge overlooks or imagines is
therefore not rewarded twice. It says how true a prompt is of an image, as a mean log probability of the prompt's facts.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from imagewright.evaluation.palette import COLOURS, SHAPES
from imagewright.evaluation.scene_judge import RELATIONS, SceneObject, ScenePrompt

Pixels = NDArray[np.uint8]
SIDE_PX = 32
MAX_COUNT = 6
BATCH = 128
NOISE = 0.04
"""Standard deviation of the pixel noise of training images (range -1..1): decoders leave some."""
NAMES = [(shape, colour) for shape in SHAPES for colour in COLOURS]
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
PARTS = {"shape": len(SHAPES), "name": len(NAMES), "count": MAX_COUNT + 1, "relation": len(RELATIONS) + 1}


class SceneNetwork(nn.Module):
    """Image [B, 3, 32, 32] in -1..1 -> logits: `shape` and `name` (shape in a colour) present, `count` of objects, `relation` of two."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, 96, 128)
        layers: list[nn.Module] = []
        for number, (width, wider) in enumerate(pairwise(widths)):
            layers += [nn.Conv2d(width, wider, 3, stride=2 if number else 1, padding=1), nn.GroupNorm(8, wider), nn.SiLU()]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 16, 256), nn.SiLU())
        self.heads = nn.Linear(256, sum(PARTS.values()))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Logits by part, each [B, its size]."""
        return dict(zip(PARTS, self.heads(self.body(images)).split(list(PARTS.values()), dim=1), strict=True))


def to_tensor(images: Pixels) -> Tensor:
    """uint8 [B, H, W, 3] -> [B, 3, 32, 32] in -1..1."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    return pixels if pixels.shape[-1] == SIDE_PX else functional.interpolate(pixels, (SIDE_PX, SIDE_PX), mode="area")


def relation_index(first: tuple[str, str | None], second: tuple[str, str | None], relation: str | None) -> int:
    """Class of a relation, the same from whichever object it is told: 0 is none, and pairs that cannot be told apart have none."""
    if relation is None or first == second:
        return 0
    ordered = (first[0], first[1] or "") < (second[0], second[1] or "")
    return 1 + RELATIONS.index(relation if ordered else OPPOSITE[relation])


def targets_of(scenes: Sequence[tuple[tuple[SceneObject, ...], ScenePrompt]]) -> dict[str, Tensor]:
    """What the network should say of scenes with known objects: `shape`, `name` [B, n] of 0 and 1, `count`, `relation` [B]."""
    shapes, names = torch.zeros(len(scenes), len(SHAPES)), torch.zeros(len(scenes), len(NAMES))
    counts, relations = torch.zeros(len(scenes), dtype=torch.int64), torch.zeros(len(scenes), dtype=torch.int64)
    for row, (objects, said) in enumerate(scenes):
        for found in objects:
            shapes[row, SHAPES.index(found.shape)] = 1.0
            if found.colour in COLOURS:
                names[row, NAMES.index((found.shape, found.colour))] = 1.0
        counts[row] = min(len(objects), MAX_COUNT)
        if len(objects) == 2:
            pair = [(found.shape, found.colour) for found in objects]
            relations[row] = relation_index(pair[0], pair[1], said.relation)
    return {"shape": shapes, "name": names, "count": counts, "relation": relations}


def train_network(images: Pixels, scenes: Sequence[tuple[tuple[SceneObject, ...], ScenePrompt]], steps: int, seed: int) -> SceneNetwork:
    """Learns from images [N, H, W, 3] with known objects; deterministic for a seed on one machine. `relation` learns where one is told."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SceneNetwork()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=max(2, steps), pct_start=0.1)
    pixels, truth = to_tensor(images), targets_of(scenes)
    told = torch.tensor([said.relation is not None for _, said in scenes])
    for _ in range(steps):
        rows = torch.randint(len(pixels), (BATCH,), generator=generator)
        batch = pixels[rows] + NOISE * torch.randn(BATCH, *pixels.shape[1:], generator=generator)
        said = network(batch)
        losses = [functional.binary_cross_entropy_with_logits(said[part], truth[part][rows]) for part in ("shape", "name")]
        losses.append(0.2 * functional.cross_entropy(said["count"], truth["count"][rows]))
        relation = functional.cross_entropy(said["relation"], truth["relation"][rows], reduction="none") * told[rows]
        loss = 4.0 * torch.stack(losses[:2]).sum() + losses[2] + 0.4 * relation.mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return network.eval().requires_grad_(False)


@torch.no_grad()
def truths(network: SceneNetwork, images: Pixels, prompts: Sequence[ScenePrompt]) -> list[float]:
    """Mean log probability of each prompt's facts in its image; 0 is certain truth."""
    found: list[float] = []
    for start in range(0, len(prompts), BATCH):
        said = network(to_tensor(images[start : start + BATCH]))
        present = {part: functional.logsigmoid(said[part]) for part in ("shape", "name")}
        chosen = {part: functional.log_softmax(said[part], dim=1) for part in ("count", "relation")}
        for row, prompt in enumerate(prompts[start : start + BATCH]):
            facts = [fact(present, row, shape, colour) for shape, colour in prompt.objects]
            if prompt.count is not None:
                facts.append(float(chosen["count"][row, min(prompt.count, MAX_COUNT)]))
            if prompt.relation is not None:
                facts.append(float(chosen["relation"][row, relation_index(prompt.objects[0], prompt.objects[1], prompt.relation)]))
            found.append(sum(facts) / len(facts))
    return found


def fact(present: dict[str, Tensor], row: int, shape: str, colour: str | None) -> float:
    """Log probability that a shape, in its colour where one is named, is in the image."""
    if colour is None or colour not in COLOURS:
        return float(present["shape"][row, SHAPES.index(shape)])
    return float(present["name"][row, NAMES.index((shape, colour))])
