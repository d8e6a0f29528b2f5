"""The Bradley-Terry likelihood of pairwise choices: trains scores on who was preferred to whom, beside the score bins.

Pure. Source: Bradley and Terry, "Rank analysis of incomplete block designs", 1952, equation 1 with strengths exp(score / scale).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def win_logit(first: Tensor, second: Tensor, scale: float) -> Tensor:
    """Log odds that `first` is preferred: (first - second) / scale; any shape."""
    return (first - second) / scale


def bradley_terry_loss(winners: Tensor, losers: Tensor, scale: float) -> Tensor:
    """-log sigmoid((winner - loser) / scale), mean over pairs; scores [P] -> scalar. Equal scores cost log 2."""
    assert scale > 0, "the scale of scores must be positive"
    return -F.logsigmoid(win_logit(winners.float(), losers.float(), scale)).mean()
