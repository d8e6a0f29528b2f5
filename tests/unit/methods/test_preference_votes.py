"""People vote on the very samples that are paired: what is put to the vote, and what their verdict does to the pairs."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from fixtures.curated_scenes import write_curated
from preference_cases import Brightness, small_generator
from typer.testing import CliRunner

from imagewright.annotation.project import Project
from imagewright.annotation.store import AnnotationStore
from imagewright.cli.main import app
from imagewright.config import load_recipe
from imagewright.data.latents import LatentsDataset
from imagewright.data.preferences import Pair, PreferenceError, index_of, read_pairs
from imagewright.errors import InputError
from imagewright.evaluation.generation import Generator, SamplerSettings
from imagewright.methods.preference_sampling import Built, sample_preferences
from imagewright.methods.preference_votes import read_votes, sampling_of

MODEL = "a" * 64
SETTINGS = {"aes_weight": 1.0, "min_margin": 0.0, "num_prompts": 4, "vote_prompts": 3}


@pytest.fixture(scope="module")
def generator() -> Generator:
    return small_generator()


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_curated(tmp_path_factory.mktemp("curated"), 40)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, generator: Generator, curated: Path) -> Path:
    """A build nobody has voted on yet."""
    folder = tmp_path_factory.mktemp("first")
    build(generator, curated, folder)
    return folder


@pytest.fixture(scope="module")
def votes(tmp_path_factory: pytest.TempPathFactory, first: Path) -> Path:
    """The export after two people liked every picture better that the scores like less; one of them not in the last pair."""
    folder = tmp_path_factory.mktemp("votes")
    database = f"sqlite:///{folder / 'votes.db'}"
    annotate("create", f"{first}/votes/project.json", "--images", f"{first}/votes/images", "--database", database)
    project, store = read_project(first), AnnotationStore(database)
    worse = {worst for _, worst in project.pairs}
    for annotator, contrary in (("ann", ()), ("bob", project.pairs[-1])):
        one = store.assign(project.name, annotator)
        while (question := (view := store.view(one.id)).position.question) is not None:
            liked = next(key for key in question.images if (key in worse) != (key in contrary))
            assert store.vote(one.id, question.key, view.revision, liked)
    annotate("export", project.name, str(folder / "export"), "--database", database)
    return folder / "export"


def annotate(*arguments: str) -> None:
    result = CliRunner().invoke(app, ["annotate", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def build(
    generator: Generator, curated: Path, folder: Path, votes: Path | None = None, seed: int = 0, model: str = MODEL, **changes: object
) -> Built:
    config = load_recipe("debug").preferences.model_copy(update={**SETTINGS, **changes})
    return sample_preferences(config, generator, curated, folder, seed, sampled_from=model, scorer=Brightness(), votes=votes)


def read_project(folder: Path) -> Project:
    return Project.model_validate_json((folder / "votes" / "project.json").read_text(encoding="utf-8"))


def members(pair: Pair) -> tuple[str, str]:
    return pair.chosen_key, pair.rejected_key


def changed_export(votes: Path, folder: Path, change: dict[str, str] | None = None, **columns: str) -> Path:
    """The export with parts of its keys, or whole columns, replaced."""
    rows = pq.read_table(votes / "pairs.parquet").to_pylist()
    for row in rows:
        row.update(columns)
        for name in ("winner", "loser"):
            for old, new in (change or {}).items():
                row[name] = row[name].replace(old, new)
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "pairs.parquet")
    return folder


def test_what_is_put_to_the_vote_are_the_pairs_of_the_first_prompts(first: Path) -> None:
    project, pairs = read_project(first), read_pairs(first)
    assert project.kind == "preference" and list(project.pairs) == [members(pair) for pair in pairs[:3]]
    assert {project.item(key).prompt for key in project.pairs[0]} == {pairs[0].prompt}
    assert all(key.startswith(f"{MODEL[:12]}.") for pair in project.pairs for key in pair)
    assert {path.stem for path in (first / "votes" / "images").iterdir()} == {key for pair in project.pairs for key in pair}


def test_what_people_say_replaces_what_was_measured(first: Path, votes: Path, generator: Generator, curated: Path, tmp_path: Path) -> None:
    built = build(generator, curated, tmp_path, votes)
    before, after = read_pairs(first), read_pairs(tmp_path)
    assert [members(pair) for pair in after] == [members(before[0])[::-1], members(before[1])[::-1], members(before[3])]
    assert [pair.source for pair in after] == ["human", "human", "model"]
    assert [pair.margin for pair in after[:2]] == [1.0, 1.0]
    assert json.loads(after[0].scores)["votes"] == [1.0, 0.0] and "aesthetic" in json.loads(after[0].scores)
    assert built.dropped == {"vote_tie": 1} and built.votes == {"used": 6}
    assert built.counts()["pairs_human"] == 2
    about = json.loads((tmp_path / "audit.json").read_text())
    assert about["votes"] == {"used": 6} and about["ranked_by"][-1] == "votes"
    assert about["audit"]["sources"] == {"human": 2, "model": 1}


def test_the_samples_are_drawn_again_from_their_keys_alone(
    first: Path, votes: Path, generator: Generator, curated: Path, tmp_path: Path
) -> None:
    build(generator, curated, tmp_path, votes, seed=9, num_prompts=1, samples_per_prompt=2)
    human = [pair for pair in read_pairs(tmp_path) if pair.source == "human"]
    assert {members(pair) for pair in human} == {members(pair)[::-1] for pair in read_pairs(first)[:2]}
    old, new = LatentsDataset(first), LatentsDataset(tmp_path)
    for key in members(human[0]):
        torch.testing.assert_close(old.read(index_of(old)[key]).latents, new.read(index_of(new)[key]).latents)


def test_building_again_puts_the_same_pairs_to_the_same_vote(
    first: Path, votes: Path, generator: Generator, curated: Path, tmp_path: Path
) -> None:
    build(generator, curated, tmp_path, votes)
    assert read_project(tmp_path) == read_project(first)


def test_simulated_votes_stay_labelled(votes: Path, generator: Generator, curated: Path, tmp_path: Path) -> None:
    build(generator, curated, tmp_path / "out", changed_export(votes, tmp_path / "votes", origin="simulated"))
    assert [pair.source for pair in read_pairs(tmp_path / "out")] == ["synthetic", "synthetic", "model"]


def test_a_majority_wins_by_its_share(tmp_path: Path) -> None:
    prompt = "a red circle"
    sampling = sampling_of(MODEL, "identity", SamplerSettings(2, 4.0, 4.0, 32))
    keys = [sampling.key(prompt, seed) for seed in (7, 3)]
    rows = [
        {"winner": keys[who == "eve"], "loser": keys[who != "eve"], "annotator": who, "origin": "human"} for who in ("ann", "bob", "eve")
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    (verdict,) = read_votes(tmp_path, sampling, [prompt]).on(prompt)
    assert (verdict.winner, verdict.loser, verdict.num_votes) == (7, 3, 3)
    assert verdict.margin == pytest.approx(1 / 3)


def test_votes_about_other_samples_are_counted_and_refused_when_none_is_left(
    first: Path, votes: Path, generator: Generator, curated: Path, tmp_path: Path
) -> None:
    project = read_project(first)
    lost = project.pairs[0][0].split(".")[2]
    built = build(generator, curated, tmp_path / "out", changed_export(votes, tmp_path / "partly", {lost: "f" * 16}))
    assert built.votes == {"used": 4, "unknown": 2}
    for other, fate in (({"model": "b" * 64}, "other_model"), ({"num_steps": 3}, "other_sampler")):
        with pytest.raises(PreferenceError, match=rf"votes on samples of this model, .*{fate}': 6"):
            build(generator, curated, tmp_path / fate, votes, **other)  # type: ignore[arg-type]


def test_votes_that_cannot_be_used_are_named(votes: Path, generator: Generator, curated: Path, tmp_path: Path) -> None:
    with pytest.raises(PreferenceError, match="origin: must be one of human, simulated"):
        build(generator, curated, tmp_path / "out", changed_export(votes, tmp_path / "nobody", origin="oracle"))
    (tmp_path / "empty").mkdir()
    pq.write_table(pa.Table.from_pylist([]), tmp_path / "empty" / "pairs.parquet")
    with pytest.raises(PreferenceError, match="no vote"):
        build(generator, curated, tmp_path / "out", tmp_path / "empty")
    with pytest.raises(InputError, match="cannot be read"):
        build(generator, curated, tmp_path / "out", tmp_path)


def test_people_may_decide_where_the_scores_cannot(generator: Generator, curated: Path, tmp_path: Path) -> None:
    built = build(generator, curated, tmp_path / "ties", min_margin=2.5)
    assert built.audit.pairs == 0 and len(read_project(tmp_path / "ties").pairs) == 3
    build(generator, curated, tmp_path / "none", vote_prompts=0)
    assert not (tmp_path / "none" / "votes").exists()
