"""From people's votes to a scorer: the export of a real tournament, joined with the pictures by sample key."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fixtures.annotation import picture
from fixtures.curated_scenes import write_curated

from imagewright.annotation.export import export_project
from imagewright.annotation.project import Item, Project
from imagewright.annotation.store import AnnotationStore
from imagewright.config.aes import AesConfig
from imagewright.config.training import TrainingConfig
from imagewright.data.manifest import read_manifest
from imagewright.errors import InputError
from imagewright.methods.aesthetic_run import AestheticRun
from imagewright.methods.aesthetic_votes import read_votes, three_parts, train_on_votes
from imagewright.models.aesthetic import load_scorer
from imagewright.tracking.job_run import NullRun

TINY = AesConfig(backbone="filters", members=1, steps=4, pairs_per_step=4)
TRAINING = TrainingConfig(checkpoint_every_steps=4, validate_every_steps=0)


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_curated(tmp_path_factory.mktemp("curated"), 30)


@pytest.fixture(scope="module")
def votes(curated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One annotator, who likes later keys better, and a picture that the curated data does not hold."""
    folder = tmp_path_factory.mktemp("votes")
    keys = [*read_manifest(curated, kept=True)["sample_key"].to_pylist()[:24], "elsewhere"]
    store = AnnotationStore(f"sqlite:///{folder / 'votes.db'}")
    items = [Item(key=key, category="even" if place % 2 else "odd") for place, key in enumerate(keys)]
    store.create_project(Project(name="looks", kind="tournament", items=tuple(items)), dict.fromkeys(keys, picture(9)))
    one = store.assign("looks", "ann")
    while (question := (view := store.view(one.id)).position.question) is not None:
        store.vote(one.id, question.key, view.revision, max(question.images))
    export_project(store, "looks", folder / "export")
    return folder / "export"


def test_a_model_of_peoples_votes_says_so_and_has_figures_on_pictures_it_never_saw(curated: Path, votes: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    outcome = train_on_votes(
        AestheticRun(TINY, TRAINING, curated, "0" * 64, tmp_path / "work", votes_digest="1" * 64), votes, output, NullRun()
    )
    assert (outcome.counts["num_in"], outcome.counts["num_kept"], outcome.counts["num_dropped"]) == (25, 24, 1)
    assert load_scorer(output).origin == "human"
    tree = json.loads((output / "metrics.json").read_text())
    assert tree["origin"] == "human" and tree["test"]["held_out"]["model"]["num"] == 3
    for path in (output / "aes" / "README.md", output / "report.html"):
        assert "People rated these pictures" in path.read_text() and "simulated" not in path.read_text()


def test_ratings_and_pairs_keep_the_order_of_the_votes(curated: Path, votes: Path) -> None:
    voted = read_votes(votes, curated, 16)
    assert voted.images.shape == (24, 16, 16, 3) and "elsewhere" not in voted.keys
    assert all(voted.keys[winner] > voted.keys[loser] for winner, loser in voted.pairs)
    best, worst = (voted.scores[voted.keys.index(key)] for key in (max(voted.keys), min(voted.keys)))
    assert best > worst


def test_the_three_parts_share_no_picture() -> None:
    parts = three_parts(40, 0.1, seed=0)
    assert [len(part) for part in parts] == [32, 4, 4]
    assert sorted(index for part in parts for index in part.tolist()) == list(range(40))


def test_votes_about_other_pictures_and_damaged_exports_are_named(curated: Path, votes: Path, tmp_path: Path) -> None:
    table = pq.read_table(votes / "ratings.parquet")
    pq.write_table(table.slice(0, 5), tmp_path / "ratings.parquet")
    with pytest.raises(InputError, match="at least 12 pictures"):
        read_votes(tmp_path, curated, 16)
    (tmp_path / "ratings.parquet").write_bytes(b"no table")
    with pytest.raises(InputError, match="cannot be read"):
        read_votes(tmp_path, curated, 16)
