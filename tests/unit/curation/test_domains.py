"""Domains select by rules, quality and style; one that selects nothing is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from imagewright.curation.domains import Domain, DomainError, DomainRules, choose, declared_domains, load_domain, style_distances
from imagewright.data.manifest import ManifestRow


def row(key: str, **facts: str) -> ManifestRow:
    return replace(ManifestRow(key, "s.tar", 0, 1, "0" * 64), source="scenes", **facts)  # type: ignore[arg-type]


ROWS = [
    row("a", style="flat", scene=json.dumps({"task": "counting"})),
    row("b", style="dark", scene=json.dumps({"task": "single"})),
    row("c", style="flat", category="posters/sale"),
    row("d", style="flat"),
]
FEATURES = {item.sample_key: np.array([0.1 * at, 1.0]) for at, item in enumerate(ROWS)}


def chosen(domain: Domain, scores: dict[str, dict[str, float]] | None = None) -> list[str]:
    return [item.sample_key for item in choose(domain, ROWS, scores or {}, FEATURES)[0]]


def domain(**facts: object) -> Domain:
    return Domain.model_validate({"name": "d", "title": "D", "max_style_distance": 100.0, **facts})


def test_every_packaged_domain_loads_under_its_own_name() -> None:
    names = declared_domains()
    assert {"poster_design", "game_screenshots", "portrait_photography", "object_photography", "anime"} <= set(names)
    assert [load_domain(name).name for name in names] == names


@pytest.mark.parametrize(
    ("rules", "keys"),
    [
        ({}, ["a", "b", "c", "d"]),
        ({"styles": ("flat",)}, ["a", "c", "d"]),
        ({"tasks": ("counting",)}, ["a"]),
        ({"categories": ("posters",)}, ["c"]),
        ({"styles": ("flat",), "tasks": ("single", "counting")}, ["a"]),
    ],
)
def test_rules_select_rows(rules: dict[str, object], keys: list[str]) -> None:
    assert chosen(domain(select=DomainRules.model_validate(rules))) == keys


def test_a_score_just_below_the_threshold_is_out_and_just_at_it_is_in() -> None:
    rules = {"min_scores": {"aesthetic": 0.5}}
    scores = {"a": {"aesthetic": 0.5}, "b": {"aesthetic": 0.4999}, "c": {}}
    assert chosen(domain(select=rules), scores) == ["a"]


def test_the_quota_keeps_the_best_looking() -> None:
    scores = {key: {"aesthetic": value} for key, value in zip("abcd", (0.1, 0.9, 0.5, 0.7), strict=True)}
    assert chosen(domain(quota=2), scores) == ["b", "d"]
    assert len(chosen(domain(quota=99), scores)) == 4


def test_a_domain_that_selects_nothing_is_refused() -> None:
    with pytest.raises(DomainError, match="selects no sample"):
        chosen(domain(select={"styles": ("oil",)}))
    with pytest.raises(DomainError, match="no domain has this name"):
        load_domain("poster")


def test_style_distance_names_the_stray_and_not_the_crowd() -> None:
    rng = np.random.default_rng(0)
    crowd = rng.normal(0, 1, (200, 6))
    stray = np.full((1, 6), 8.0)
    distances = style_distances(np.concatenate([crowd, stray]))
    assert distances[-1] > 4
    assert np.quantile(distances[:-1], 0.99) < 3
    assert np.median(distances) == pytest.approx(1.0, abs=0.01)


def test_style_distance_does_not_depend_on_units() -> None:
    features = np.random.default_rng(1).normal(0, 1, (50, 4))
    np.testing.assert_allclose(style_distances(features), style_distances(features * 100 + 7), rtol=1e-3)
