"""Ranks the samples of a prompt into pairs: by people's verdict where there is one, else the best over the worst by what can be checked."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imagewright.config.preferences import PreferencesConfig
from imagewright.data.latents import EncodedCaption, LatentsWriter
from imagewright.data.preferences import Pair
from imagewright.methods.preference_prompts import CheckedPrompt
from imagewright.methods.preference_votes import BallotWriter, Sampling, Verdict, Votes

CAPTION_FORM = "short"
VOTES = "votes"

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Candidate:
    """One sample of a prompt: latents [C, h, w], image [H, W, 3], scores by dimension, and their total."""

    latents: Tensor
    image: Pixels
    scores: dict[str, float]
    total: float
    seed: int


class PairBuilder:
    """Collects pairs, writes their samples, and puts the first prompts to the vote."""

    def __init__(self, config: PreferencesConfig, sampling: Sampling, votes: Votes, writer: LatentsWriter, ballot: BallotWriter) -> None:
        self.config, self.sampling, self.votes, self.writer, self.ballot = config, sampling, votes, writer, ballot
        self.pairs: list[Pair] = []
        self.dropped: Counter[str] = Counter()
        """Prompts, or verdicts, that gave no pair, by reason."""
        self.shown: list[tuple[Pixels, Pixels]] = []
        """Pairs for people to look at."""
        self.written: set[str] = set()

    def add(self, prompt: CheckedPrompt, embeds: Tensor, candidates: Sequence[Candidate]) -> None:
        """Ranks the samples of one prompt, embeds [T, D]. Non-finite samples, ties and hopeless prompts give no pair and are counted."""
        finite = [found for found in candidates if bool(torch.isfinite(found.latents).all())]
        if len(finite) < 2:
            self.dropped["not_finite"] += 1
            return
        ordered = sorted(finite, key=lambda found: -found.total)
        best, worst = ordered[0], ordered[-1]
        if len(self.ballot.pairs) < self.config.vote_prompts:
            self.ballot.add(prompt.text, prompt.task, ((best.seed, best.image), (worst.seed, worst.image)))
        if verdicts := self.votes.on(prompt.text):
            self.add_voted(prompt, embeds, verdicts, {found.seed: found for found in finite})
        elif reason := self.objection(best, worst):
            self.dropped[reason] += 1
        else:
            self.append(prompt, embeds, best, worst, (best.total, worst.total), prompt.prompt_id, "model")

    def objection(self, best: Candidate, worst: Candidate) -> str:
        """Why the scores make no pair of these; empty when they do."""
        margin = best.total - worst.total
        if margin < self.config.min_margin or margin == 0:
            return "tie"
        return "best_too_poor" if best.total < self.config.min_chosen_score else ""

    def add_voted(self, prompt: CheckedPrompt, embeds: Tensor, verdicts: Sequence[Verdict], by_seed: dict[int, Candidate]) -> None:
        """One pair of every verdict that is no tie, whatever the scores say."""
        for place, verdict in enumerate(verdicts):
            chosen, rejected = by_seed.get(verdict.winner), by_seed.get(verdict.loser)
            if verdict.margin == 0:
                self.dropped["vote_tie"] += 1
            elif chosen is None or rejected is None:
                self.dropped["not_finite"] += 1
            else:
                shares = (verdict.share_for, 1 - verdict.share_for)
                self.append(prompt, embeds, chosen, rejected, shares, f"{prompt.prompt_id}.{VOTES}{place}", verdict.source)

    def append(
        self,
        prompt: CheckedPrompt,
        embeds: Tensor,
        chosen: Candidate,
        rejected: Candidate,
        worth: tuple[float, float],
        pair_id: str,
        source: str,
    ) -> None:
        """Adds a pair and writes its samples. worth: of chosen and rejected, whose difference is the margin."""
        keys = [self.write(prompt, embeds, found) for found in (chosen, rejected)]
        scores = {name: [chosen.scores[name], rejected.scores[name]] for name in chosen.scores if name in rejected.scores}
        if source != "model":
            scores[VOTES] = list(worth)
        self.pairs.append(
            Pair(
                pair_id=pair_id,
                prompt=prompt.text,
                chosen_key=keys[0],
                rejected_key=keys[1],
                source=source,
                margin=worth[0] - worth[1],
                chosen_score=worth[0],
                rejected_score=worth[1],
                scores=json.dumps(scores),
                dimension=VOTES if source != "model" else max(scores, key=lambda name: scores[name][0] - scores[name][1]),
            )
        )
        if len(self.shown) < self.config.grid_pairs:
            self.shown.append((chosen.image, rejected.image))

    def write(self, prompt: CheckedPrompt, embeds: Tensor, found: Candidate) -> str:
        """Writes a sample unless an earlier pair holds it; returns its key."""
        key = self.sampling.key(prompt.text, found.seed)
        if key not in self.written:
            self.writer.add(key, found.latents, [EncodedCaption(CAPTION_FORM, embeds.to(torch.bfloat16))], category=prompt.task)
            self.written.add(key)
        return key
