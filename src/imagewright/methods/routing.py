"""Who teaches a sample: weights of a committee's teachers from prompt domain, noise level, prompt and the objective that asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from imagewright.config.distill import Objective, RoutingRule
from imagewright.errors import InputError, Problem

BASE = "base"
OWN = "own"
OBJECTIVES: tuple[Objective, ...] = ("CA", "DM")


class RoutingError(InputError):
    """A table that leaves a question open, or weights that are no weights."""


@dataclass(frozen=True)
class Query:
    """What a router may look at: domains [B], noise levels [B] in 0..1, prompts B x [T, D], and the objective that asks."""

    domains: Sequence[str]
    sigmas: Tensor
    prompts: Sequence[Tensor]
    objective: Objective


class Router(Protocol):
    """Weighs teachers."""

    def weights(self, query: Query) -> Tensor:
        """Weights [B, K] in 0..1, every row summing to 1."""


class RuleTable:
    """Hard routing: the first rule that matches and names a teacher."""

    def __init__(self, rules: Sequence[RoutingRule], teachers: Sequence[str], domains: Sequence[str], own: Mapping[str, str]) -> None:
        """own: the teacher that `own` stands for, by domain (a missing domain has none).

        Raises RoutingError for rules that name no teacher of this committee and for domains that nobody teaches.
        """
        self.rules, self.teachers, self.own = rules, list(teachers), own
        fix = f"name one of {', '.join(teachers)}, or own"
        problems = [
            Problem(f"distill.routing.rules.{number}.expert", "is not on the committee", rule.expert, fix)
            for number, rule in enumerate(rules)
            if rule.expert != OWN and rule.expert not in self.teachers
        ]
        problems = problems or self.gaps(domains)
        if problems:
            raise RoutingError(problems)

    def gaps(self, domains: Sequence[str]) -> list[Problem]:
        """Domains that some noise level or objective leaves without a teacher; rules only change at their own edges."""
        edges = sorted({0.0, 1.0, *(edge for rule in self.rules for edge in (rule.low, rule.high))})
        problems = []
        for domain in domains:
            open_at = [(objective, low) for objective in OBJECTIVES for low in edges if self.find(domain, low, objective) is None]
            if open_at:
                objective, low = open_at[0]
                fix = "add a rule, for example {expert: base}"
                problems.append(Problem("distill.routing.rules", f"nobody teaches {domain!r} for {objective} at {low:g}", domain, fix))
        return problems

    def find(self, domain: str, sigma: float, objective: Objective) -> int | None:
        """Number of the teacher; None when no rule answers."""
        for rule in self.rules:
            inside = rule.low <= sigma < rule.high or (sigma >= 1.0 and rule.high == 1.0)
            if inside and rule.domain in ("*", domain) and rule.objective in ("both", objective):
                name = self.own.get(domain) if rule.expert == OWN else rule.expert
                if name is not None:
                    return self.teachers.index(name)
        return None

    def weights(self, query: Query) -> Tensor:
        """One-hot rows."""
        chosen = []
        for domain, sigma in zip(query.domains, query.sigmas.tolist(), strict=True):
            number = self.find(domain, sigma, query.objective)
            if number is None:
                raise RoutingError(Problem("distill.routing.rules", "nobody teaches this domain", domain, "add a rule for it"))
            chosen.append(number)
        return functional.one_hot(torch.tensor(chosen), len(self.teachers)).float()


class SoftRouter:
    """Softmax over the cosine of the prompt's mean embedding to the mean prompt of each teacher's domain."""

    def __init__(self, prototypes: Tensor, temperature: float) -> None:
        """prototypes: [K, D], one per teacher."""
        self.centre = prototypes.mean(dim=0)
        self.prototypes, self.temperature = functional.normalize(prototypes - self.centre, dim=-1), temperature

    def weights(self, query: Query) -> Tensor:
        """The prompt alone decides; embeddings share a large common part, so their centre is taken off first."""
        means = torch.stack([prompt.float().mean(dim=0) for prompt in query.prompts]).cpu()
        similarity = functional.normalize(means - self.centre, dim=-1) @ self.prototypes.t()
        return (similarity / self.temperature).softmax(dim=-1)


class LearnedGate:
    """A linear gate over prompt, noise level and objective, fitted to weigh down teachers that denoise badly."""

    def __init__(self, width: int, num_teachers: int, seed: int = 0) -> None:
        """width: D of the prompts."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.network = nn.Linear(width + 3 + len(OBJECTIVES), num_teachers)

    def features(self, query: Query) -> Tensor:
        """Mean prompt (unit length), noise level with its sine and cosine, objective: [B, F]."""
        means = functional.normalize(torch.stack([prompt.float().mean(dim=0) for prompt in query.prompts]).cpu(), dim=-1)
        sigma = query.sigmas.float().cpu()[:, None]
        objective = torch.tensor([[float(query.objective == name) for name in OBJECTIVES]]).expand(len(sigma), -1)
        return torch.cat([means, sigma, (torch.pi * sigma).sin(), (torch.pi * sigma).cos(), objective], dim=1)

    @torch.no_grad()
    def weights(self, query: Query) -> Tensor:
        """Softmax of the gate."""
        weights: Tensor = self.network(self.features(query)).softmax(dim=-1)
        return weights

    def fit(self, queries: Sequence[Query], errors: Sequence[Tensor], steps: int, learning_rate: float = 0.05) -> float:
        """Lowers the expected error sum_k W_k error_k. errors: [B, K] per query, squared clean-sample errors. Returns the last mean."""
        features = torch.cat([self.features(query) for query in queries])
        # Errors differ tenfold between noise levels: relative to the best teacher of each sample every level counts alike.
        table = torch.cat(list(errors)).float().cpu()
        table = table / table.amin(dim=1, keepdim=True).clamp_min(1e-12)
        optimizer = torch.optim.Adam(self.network.parameters(), lr=learning_rate)
        value = float("nan")
        for _ in range(steps):
            loss = (self.network(features).softmax(dim=-1) * table).sum(dim=1).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            value = float(loss.detach())
        return value


def check_weights(weights: Tensor) -> None:
    """Raises RoutingError unless every row of [B, K] lies in 0..1 and sums to 1 (within 1e-4, rounding of a softmax)."""
    sums = weights.sum(dim=-1)
    inside = bool(torch.isfinite(weights).all()) and float(weights.min()) >= -1e-6
    if not inside or float((sums - 1.0).abs().max()) > 1e-4:
        raise RoutingError(Problem("committee.weights", "must lie in 0..1 and sum to 1 for every sample", sums.tolist(), "normalise them"))
