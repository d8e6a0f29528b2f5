"""The method `aesthetic`: cross-entropy to soft score bins plus Bradley-Terry on the raw pairs, categories balanced."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imagewright.config.aes import AesConfig
from imagewright.losses.pairwise_ranking import bradley_terry_loss
from imagewright.losses.score_distribution import expected_score, score_distribution_loss, soft_bins
from imagewright.models.aesthetic import Ensemble
from imagewright.training.method import PlainMethod, StepOutput

SCORER = "scorer"


@dataclass(frozen=True)
class RatedPairs:
    """Training data in memory: images uint8 [N, 3, S, S], scores [N] in 0..100, pairs [P, 2] of (winner, loser), categories of images."""

    images: Tensor
    scores: Tensor
    pairs: NDArray[np.int64]
    categories: Sequence[str]

    def __post_init__(self) -> None:
        assert len(self.images) == len(self.scores) == len(self.categories)
        assert self.pairs.ndim == 2 and self.pairs.shape[1] == 2 and len(self.pairs), "pairs are [P, 2] and at least one"


@dataclass(frozen=True)
class PairBatch:
    """winners and losers, uint8 [P, 3, S, S], with their scores [P]."""

    winners: Tensor
    losers: Tensor
    winner_scores: Tensor
    loser_scores: Tensor

    @property
    def num_samples(self) -> int:
        """Images."""
        return 2 * len(self.winners)

    @property
    def num_tokens(self) -> int:
        """Images: throughput is counted in them."""
        return self.num_samples


class BalancedPairLoader:
    """Endless batches: a category with probability ~ n ** balance, then a pair whose winner is in it; n counts the category's pairs.

    balance 1 draws as the data is, 0 every category alike. A step's batch depends on (seed, step) only.
    """

    def __init__(self, data: RatedPairs, pairs_per_step: int, seed: int, balance: float = 0.0) -> None:
        self.data, self.pairs_per_step, self.seed, self.step = data, pairs_per_step, seed, 0
        groups: dict[str, list[int]] = defaultdict(list)
        for index, (winner, _) in enumerate(data.pairs):
            groups[data.categories[int(winner)]].append(index)
        self.groups = [np.asarray(groups[name]) for name in sorted(groups)]
        weights = np.asarray([float(len(group)) ** balance for group in self.groups])
        self.chances = weights / weights.sum()

    def next_step(self) -> list[PairBatch]:
        """One micro-batch."""
        rng = np.random.default_rng([self.seed, self.step])
        self.step += 1
        drawn = rng.choice(len(self.groups), size=self.pairs_per_step, p=self.chances)
        chosen = [int(rng.choice(self.groups[int(group)])) for group in drawn]
        winners, losers = (torch.from_numpy(self.data.pairs[chosen, side]) for side in (0, 1))
        mirrored = torch.from_numpy(rng.random((2, self.pairs_per_step, 1, 1, 1)) < 0.5)
        pictures = [self.data.images[index] for index in (winners, losers)]
        turned = [torch.where(flip, picture.flip(-1), picture) for flip, picture in zip(mirrored, pictures, strict=True)]
        return [PairBatch(turned[0], turned[1], self.data.scores[winners], self.data.scores[losers])]

    def state(self) -> dict[str, int]:
        """Steps handed out."""
        return {"step": self.step}

    def load_state(self, state: dict[str, int]) -> None:
        """Continues after them."""
        self.step = state["step"]


class AestheticMethod(PlainMethod):
    """Trains every member of the ensemble on the same batches; they differ by their initial weights."""

    def __init__(self, network: Ensemble, config: AesConfig, device: torch.device | None = None) -> None:
        self.network, self.config, self.device = network, config, device or torch.device("cpu")

    def networks(self) -> dict[str, nn.Module]:
        """The ensemble as one network."""
        return {SCORER: self.network}

    def train_step(self, batch: PairBatch, step: int) -> StepOutput:
        """Both losses, averaged over the members."""
        images = torch.cat([batch.winners, batch.losers]).to(self.device)
        scores = torch.cat([batch.winner_scores, batch.loser_scores]).to(self.device)
        targets = soft_bins(scores, self.config.bin_width)
        logits = self.network(images)
        bins = torch.stack([score_distribution_loss(member, targets) for member in logits]).mean()
        expected = torch.stack([expected_score(member) for member in logits])
        winners, losers = expected.chunk(2, dim=1)
        ranking = bradley_terry_loss(winners, losers, self.config.ranking_scale)
        accuracy = (winners.mean(0) > losers.mean(0)).float().mean()
        return StepOutput(
            {SCORER: bins + self.config.ranking_weight * ranking},
            {"aesthetic/bin_loss": bins.detach(), "aesthetic/ranking_loss": ranking.detach(), "aesthetic/pair_accuracy": accuracy},
        )

    def state(self) -> dict[str, Tensor]:
        """Running statistics of the norms, which are no weights."""
        return {name: buffer.detach().cpu().clone() for name, buffer in self.network.named_buffers()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Takes them back."""
        for name, buffer in self.network.named_buffers():
            buffer.copy_(state[name])
