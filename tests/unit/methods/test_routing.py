"""Who is asked: by rule table, by nearness of the prompt, or by a gate that learned who denoises well."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from imagewright.config.distill import Objective, RoutingRule
from imagewright.methods.routing import LearnedGate, Query, RoutingError, RuleTable, SoftRouter, check_weights

TEACHERS = ["base", "layout", "detail"]


def query(domains: Sequence[str], sigmas: Sequence[float], objective: Objective = "DM", prompts: Sequence[Tensor] | None = None) -> Query:
    return Query(domains, torch.tensor(sigmas), prompts or [torch.ones(2, 4)] * len(domains), objective)


def test_layout_hands_over_to_detail_along_the_noise() -> None:
    rules = [RoutingRule(low=0.5, expert="layout"), RoutingRule(high=0.5, expert="detail")]
    table = RuleTable(rules, TEACHERS, ["a"], {})
    chosen = table.weights(query(["a"] * 5, [0.0, 0.4999, 0.5, 0.9, 1.0])).argmax(dim=1)
    assert [TEACHERS[number] for number in chosen] == ["detail", "detail", "layout", "layout", "layout"]


def test_the_first_rule_that_matches_wins_and_own_is_the_domain_s_expert() -> None:
    rules = [RoutingRule(domain="a", objective="CA", expert="detail"), RoutingRule(), RoutingRule(expert="base")]
    table = RuleTable(rules, TEACHERS, ["a", "b"], {"a": "layout"})
    assert table.weights(query(["a", "b"], [0.5, 0.5], "CA")).argmax(dim=1).tolist() == [2, 0]
    assert table.weights(query(["a", "b"], [0.5, 0.5], "DM")).argmax(dim=1).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([RoutingRule()], "nobody teaches 'b'"),
        ([RoutingRule(expert="ghost")], "not on the committee"),
        ([RoutingRule(low=0.2, expert="base")], "at 0"),
        ([RoutingRule(high=0.9, expert="base")], "at 0.9"),
        ([RoutingRule(objective="DM", expert="base")], "for CA"),
    ],
)
def test_a_table_with_a_gap_is_refused(rules: list[RoutingRule], message: str) -> None:
    with pytest.raises(RoutingError, match=message):
        RuleTable(rules, TEACHERS, ["a", "b"], {"a": "layout"})


def test_the_soft_router_leans_to_the_nearest_domain_and_hardens_when_cold() -> None:
    prototypes = torch.eye(3, 4) + 5.0  # a large common part, as text encoders have
    near_second = [5.0 + torch.tensor([[0.0, 1.0, 0.0, 0.0]])]
    for temperature, share in ((1.0, 0.5), (0.05, 0.999)):
        weights = SoftRouter(prototypes, temperature).weights(query(["x"], [0.5], prompts=near_second))
        check_weights(weights)
        assert weights.argmax() == 1
        assert float(weights[0, 1]) > share


def test_the_learned_gate_finds_who_denoises_which_prompt_best() -> None:
    prompts = [torch.eye(4)[number % 2][None] for number in range(20)]
    asked = query(["x"] * 20, [0.5] * 20, prompts=prompts)
    errors = torch.tensor([[1.0, 3.0] if number % 2 == 0 else [0.3, 0.1] for number in range(20)])
    gate = LearnedGate(4, 2)
    check_weights(gate.weights(asked))
    gate.fit([asked], [errors], 200)
    weights = gate.weights(asked)
    check_weights(weights)
    assert weights.argmax(dim=1).tolist() == [number % 2 for number in range(20)]
