"""Who is champion after promotions, races, crashes and roll-backs; on a real store and a real registry."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow import MlflowClient

from imagewright.config.gate import GateConfig
from imagewright.storage import Store, open_store
from imagewright.tracking.gate import Verdict
from imagewright.tracking.models import CHAMPION, ModelError, ModelOrigin, ModelRegistry, ModelVersion
from imagewright.tracking.promotion import Promoter, PromotionLog
from imagewright.tracking.scores import Score

OVERALL = "eval/geneval/overall"
OPEN = GateConfig()
STRICT = GateConfig(must_improve=(OVERALL,))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"file://{tmp_path}/store")


@pytest.fixture
def registry(server_uri: str) -> Iterator[ModelRegistry]:
    yield ModelRegistry(server_uri)
    client = MlflowClient(server_uri)
    for model in client.search_registered_models():
        client.delete_registered_model(model.name)


@pytest.fixture
def promoter(store: Store, registry: ModelRegistry) -> Promoter:
    return Promoter(store, registry)


def make(store: Store, registry: ModelRegistry, name: str, score: float = 0.5, model: str = "turbo") -> ModelVersion:
    return registry.register(
        model, store.put_bytes(name.encode()), ModelOrigin(recipe="demo"), {OVERALL: Score(score, score - 0.1, score + 0.1)}
    )


def test_the_first_version_that_passes_becomes_champion_with_its_evidence(
    store: Store, registry: ModelRegistry, promoter: Promoter
) -> None:
    version = make(store, registry, "one")
    decision = promoter.promote(version, GateConfig(floors={OVERALL: 0.5}), reason="first")
    assert decision.entry is not None
    assert (decision.entry.number, decision.entry.against_number) == (1, 0)
    assert registry.alias("turbo") == version.version
    evidence = json.loads(store.read_bytes(decision.entry.evidence, 1 << 20))
    assert evidence["scores"][OVERALL]["value"] == 0.5
    assert [verdict["passed"] for verdict in evidence["verdicts"]] == [True, True]


class Servers:
    """Notes what promotion asks of the servers, and whether the log named a champion at that moment."""

    def __init__(self, store: Store, passes: bool) -> None:
        self.store, self.passes, self.asked = store, passes, []

    def note(self, what: str) -> None:
        self.asked.append((what, PromotionLog(self.store, "turbo").last() is not None))

    def try_out(self, digest: str) -> Verdict:
        self.note(f"try {digest[:4]}")
        return Verdict(rule="rollout", passed=self.passes, reason="probed")

    def withdraw(self) -> None:
        self.note("withdraw")

    def settle(self, digest: str) -> None:
        self.note(f"settle {digest[:4]}")


@pytest.mark.parametrize("passes", [True, False])
def test_only_a_version_that_served_requests_becomes_champion(store: Store, registry: ModelRegistry, passes: bool) -> None:
    version = make(store, registry, "one")
    servers, short = Servers(store, passes), version.digest[:4]
    decision = Promoter(store, registry, servers).promote(version, OPEN)
    assert decision.passed is passes
    assert decision.verdicts[-1].rule == "rollout"
    expected = [(f"try {short}", False), (f"settle {short}", True)] if passes else [(f"try {short}", False), ("withdraw", False)]
    assert servers.asked == expected


def test_a_version_that_fails_its_gate_gets_no_request(store: Store, registry: ModelRegistry) -> None:
    servers = Servers(store, passes=True)
    Promoter(store, registry, servers).promote(make(store, registry, "one"), GateConfig(floors={OVERALL: 0.9}))
    assert not any(what.startswith("try") for what, _ in servers.asked)


def test_a_refusal_says_why_and_changes_nothing(store: Store, registry: ModelRegistry, promoter: Promoter) -> None:
    first, worse = make(store, registry, "one", 0.8), make(store, registry, "two", 0.6)
    promoter.promote(first, OPEN)
    decision = promoter.promote(worse, GateConfig(no_regression=(OVERALL,)))
    assert not decision.passed and decision.entry is None
    assert "0.6 is worse than the champion's 0.8" in decision.verdicts[-1].reason
    assert registry.alias("turbo") == first.version
    assert len(PromotionLog(store, "turbo").entries()) == 1


def test_a_dry_run_and_a_second_promotion_of_the_champion_write_nothing(store: Store, registry: ModelRegistry, promoter: Promoter) -> None:
    version = make(store, registry, "one")
    assert promoter.promote(version, OPEN, dry_run=True).passed
    assert registry.alias("turbo") is None and PromotionLog(store, "turbo").last() is None
    promoter.promote(version, OPEN)
    assert promoter.promote(version, OPEN).already_champion
    assert len(PromotionLog(store, "turbo").entries()) == 1


def test_a_version_whose_payload_is_gone_is_refused(registry: ModelRegistry, promoter: Promoter) -> None:
    decision = promoter.promote(registry.register("turbo", "ab" * 32), OPEN)
    assert not decision.passed
    assert "not complete" in decision.verdicts[0].reason


@pytest.mark.e2e
def test_of_fifty_promotions_at_once_each_slot_has_one_winner_judged_against_the_one_before(store: Store, registry: ModelRegistry) -> None:
    versions = [make(store, registry, f"model {number}", 0.2 + number / 100) for number in range(50)]
    with ThreadPoolExecutor(50) as pool:
        decisions = list(pool.map(lambda version: Promoter(store, registry).promote(version, STRICT), versions))
    entries = PromotionLog(store, "turbo").entries()
    assert [entry.number for entry in entries] == list(range(1, len(entries) + 1))
    for before, entry in itertools.pairwise(entries):
        assert (entry.against_number, entry.against_version, entry.against_digest) == (before.number, before.version, before.digest)
    # Strictly better each time, so the best of the fifty is champion and everybody else was judged against somebody better.
    assert [entry.version for entry in entries] == sorted(entry.version for entry in entries)
    assert entries[-1].version == versions[-1].version == registry.alias("turbo")
    won = [decision for decision in decisions if decision.entry is not None]
    assert sorted(decision.entry.number for decision in won if decision.entry) == [entry.number for entry in entries]
    assert all(not decision.passed for decision in decisions if decision.entry is None)


@pytest.mark.parametrize("count", [12, pytest.param(50, marks=pytest.mark.e2e)])
def test_of_promotions_of_equals_at_once_exactly_one_wins(store: Store, registry: ModelRegistry, count: int) -> None:
    versions = [make(store, registry, f"model {number}", 0.5) for number in range(count)]
    with ThreadPoolExecutor(count) as pool:
        decisions = list(pool.map(lambda version: Promoter(store, registry).promote(version, STRICT), versions))
    (winner,) = [decision for decision in decisions if decision.entry is not None]
    assert registry.alias("turbo") == winner.candidate.version
    for decision in decisions:
        assert decision is winner or (decision.champion is not None and decision.champion.version == winner.candidate.version)


def test_an_alias_that_a_crash_left_behind_is_repaired_from_the_log(store: Store, registry: ModelRegistry, promoter: Promoter) -> None:
    first, second = make(store, registry, "one"), make(store, registry, "two")
    promoter.promote(first, OPEN)
    promoter.promote(second, OPEN)
    registry.set_alias("turbo", CHAMPION, first.version)
    assert promoter.repair("turbo") == (first.version, second.version)
    assert registry.alias("turbo") == second.version
    assert promoter.repair("turbo") == (second.version, second.version)


def test_rolling_back_twice_goes_back_two_champions(store: Store, registry: ModelRegistry, promoter: Promoter) -> None:
    versions = [make(store, registry, name) for name in ("one", "two", "three")]
    for version in versions:
        promoter.promote(version, OPEN)
    assert promoter.rollback("turbo", dry_run=True).version == versions[1].version
    assert registry.alias("turbo") == versions[2].version
    assert promoter.rollback("turbo").version == versions[1].version
    assert promoter.rollback("turbo").version == versions[0].version
    assert registry.alias("turbo") == versions[0].version
    with pytest.raises(ModelError, match="--to"):
        promoter.rollback("turbo")
    assert promoter.rollback("turbo", versions[2].version).version == versions[2].version


def test_going_back_to_nothing_or_to_a_lost_payload_is_refused(
    store: Store, registry: ModelRegistry, promoter: Promoter, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="no such earlier champion"):
        promoter.rollback("turbo")
    first, second = make(store, registry, "one"), make(store, registry, "two")
    promoter.promote(first, OPEN)
    promoter.promote(second, OPEN)
    (blob,) = [path for path in (tmp_path / "store").rglob("*") if path.is_file() and path.read_bytes() == b"one"]
    blob.chmod(0o644)
    blob.unlink()
    with pytest.raises(ModelError, match="cannot be served"):
        promoter.rollback("turbo")


def test_a_damaged_log_is_an_error_not_a_new_champion(store: Store, registry: ModelRegistry, promoter: Promoter) -> None:
    store.put_named("promotions/turbo/1.json", b"{}")
    with pytest.raises(ModelError, match="is not a promotion entry"):
        promoter.promote(make(store, registry, "one"), OPEN)
    log = PromotionLog(store, "dpo")
    promoter.promote(make(store, registry, "two", model="dpo"), OPEN)
    written = store.get_named("promotions/dpo/1.json")
    assert written is not None
    store.put_named("promotions/dpo/3.json", written.data)
    with pytest.raises(ModelError, match="entry of another place"):
        log.last()
    store.put_named("promotions/dpo/3.json", written.data.replace(b'"number": 1', b'"number": 3'))
    with pytest.raises(ModelError, match="misses entries 2"):
        log.entries()


def test_a_registry_that_is_down_promotes_nothing_and_says_so(
    store: Store, registry: ModelRegistry, promoter: Promoter, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (make(store, registry, name) for name in ("one", "two", "three"))
    promoter.promote(first, OPEN)
    promoter.promote(second, OPEN)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    gone = Promoter(store, ModelRegistry("http://127.0.0.1:9"))
    with pytest.raises(ModelError, match="check MLFLOW_TRACKING_URI"):
        gone.promote(third, STRICT)
    with pytest.raises(ModelError, match="check MLFLOW_TRACKING_URI"):
        gone.rollback("turbo")
    assert [entry.version for entry in PromotionLog(store, "turbo").entries()] == [first.version, second.version]
    assert registry.alias("turbo") == second.version
