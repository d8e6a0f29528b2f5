"""Model versions as the registry keeps them: one per payload, with scores and origin."""

from __future__ import annotations

import contextlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.store.model_registry.dbmodels.models import SqlRegisteredModelAlias
from sqlalchemy import event

from imagewright.tracking.models import CHALLENGER, CHAMPION, ModelError, ModelOrigin, ModelRegistry, parse_reference
from imagewright.tracking.scores import Score

ORIGIN = ModelOrigin(
    parent="cd" * 32, data={"latents": "latents@3"}, recipe="demo", git_commit="c0ffee", image="sha256:1", pipeline_run="run-1"
)


@pytest.fixture
def registry(server_uri: str) -> ModelRegistry:
    return ModelRegistry(server_uri)


def test_a_version_keeps_its_payload_scores_and_origin(registry: ModelRegistry, client: MlflowClient) -> None:
    version = registry.register("base", "a1" * 32, ORIGIN, {"eval/geneval/overall": Score(0.5, 0.4, 0.6)})
    registry.log_scores(version, {"eval/dpg/overall": Score(0.7, 0.7, 0.7)}, {"dpg": "ef" * 32})
    found = registry.get("base", str(version.version))
    assert found.digest == "a1" * 32
    assert found.origin == ORIGIN
    assert found.scores == {"eval/geneval/overall": Score(0.5, 0.4, 0.6), "eval/dpg/overall": Score(0.7, 0.7, 0.7)}
    assert found.evidence == {"dpg": "ef" * 32}
    assert client.get_model_version("base", str(version.version)).source == f"imagewright://sha256/{'a1' * 32}"
    assert registry.get("base", CHALLENGER) == found


def test_one_payload_is_one_version_however_often_it_is_registered(registry: ModelRegistry) -> None:
    first = registry.register("sft", "a2" * 32)
    assert registry.register("sft", "a2" * 32).version == first.version
    assert registry.register("sft", "a3" * 32).version != first.version
    assert [str(version) for version in registry.find("a2" * 32)] == [str(first)]


def test_jobs_that_register_one_payload_at_once_get_the_same_version(registry: ModelRegistry) -> None:
    with ThreadPoolExecutor(4) as pool:
        versions = list(pool.map(lambda _: registry.register("dpo", "a4" * 32).version, range(4)))
    assert set(versions) == {version.version for version in registry.find("a4" * 32)}
    assert len(set(versions)) == 1


def test_an_alias_that_somebody_makes_between_our_reading_and_our_writing_is_set_all_the_same(tmp_path: Path) -> None:
    """MLflow reads an alias, then inserts it: the writer in between breaks the insert, and nothing else."""
    registry = ModelRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}")
    for digest in ("b1" * 32, "b2" * 32):
        registry.register("turbo", digest)
    insert = "INSERT OR IGNORE INTO registered_model_aliases (workspace, name, alias, version) VALUES (?, ?, ?, ?)"

    def somebody_else(*_: object) -> None:
        with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
            database.execute(insert, ("default", "turbo", CHAMPION, 1))

    event.listen(SqlRegisteredModelAlias, "before_insert", somebody_else)
    try:
        registry.set_alias("turbo", CHAMPION, 2)
    finally:
        event.remove(SqlRegisteredModelAlias, "before_insert", somebody_else)
    assert registry.alias("turbo") == 2


@pytest.mark.parametrize("text", ["turbo", "turbo@", "turbo@0", "turbo@-1", "turbo@1.5", "giant@1", "@1", "turbo@A"])
def test_a_reference_that_names_nothing_is_refused(text: str) -> None:
    with pytest.raises(ModelError):
        parse_reference(text)


def test_references_name_a_version_or_an_alias() -> None:
    assert parse_reference("turbo@7") == ("turbo", "7")
    assert parse_reference("aes@champion") == ("aes", "champion")


def test_what_is_not_registered_is_named_together_with_what_is(registry: ModelRegistry) -> None:
    registry.register("aes", "a5" * 32)
    with pytest.raises(ModelError, match="registered versions: 1"):
        registry.get("aes", "99")
    with pytest.raises(ModelError, match="no version or alias champion"):
        registry.get("aes", "champion")
    with pytest.raises(ModelError, match="64 hexadecimal"):
        registry.register("aes", "A5" * 32)
