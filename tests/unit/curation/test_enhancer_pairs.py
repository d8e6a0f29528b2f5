"""Pairs ask less than their captions say, keep every quoted word, and never touch what is held out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from imagewright.config.enhancer import PairsConfig
from imagewright.curation.enhancer_pairs import (
    PairsError,
    RuleDegrader,
    draw_order,
    drop_attributes,
    held_out_prompts,
    make_pairs,
    read_pairs,
    training_pairs,
    write_pairs,
)
from imagewright.curation.prompt_constraints import broken_constraints
from imagewright.curation.rewriting import visible_texts
from imagewright.data.manifest import Caption, ManifestRow, write_manifest
from imagewright.registry import DataRegistry, create_repository
from imagewright.sources.posters import compose_poster, poster_captions
from imagewright.sources.scene_captions import captions_of
from imagewright.sources.scene_spec import TASKS, SceneObject, SceneSpec, is_held_out
from imagewright.sources.scenes import propose
from imagewright.storage import open_store


def rows(count: int = 120) -> list[ManifestRow]:
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        spec = propose(rng, TASKS[number % len(TASKS)], held_out=False)
        split = "holdout_compositional" if is_held_out(spec) else "train"
        found.append(ManifestRow(f"s{number}", "0.tar", 0, 1, "0" * 64, captions=captions_of(spec, rng), scene=spec.to_json(), split=split))
    for number in range(count // 3):
        layout = compose_poster(np.random.default_rng(number), ("en", "zh"))
        found.append(ManifestRow(f"p{number}", "0.tar", 0, 1, "0" * 64, captions=poster_captions(layout)))
    return found


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curated")
    write_manifest(folder / "manifest.parquet", rows())
    return folder


@pytest.mark.parametrize("strategy", PairsConfig().strategies)
def test_every_strategy_gives_pairs_whose_answers_keep_the_question(curated: Path, strategy: str) -> None:
    pairs, _ = training_pairs(curated, PairsConfig.model_validate({"strategies": (strategy,)}), 0)
    assert pairs
    for pair in pairs:
        assert broken_constraints(pair.prompt, pair.caption) == ()
        assert visible_texts(pair.prompt) == visible_texts(pair.caption)
    if strategy not in ("original", "one_clause", "other_language"):
        assert any(len(pair.prompt) < len(pair.caption) for pair in pairs)


def test_held_out_samples_are_in_no_pair(curated: Path) -> None:
    pairs, _ = training_pairs(curated, PairsConfig(), 0)
    held_out = {row.sample_key for row in rows() if row.split != "train"}
    assert held_out
    assert not held_out & {pair.sample_key for pair in pairs}
    prompts = held_out_prompts(curated, PairsConfig(), 1000, 0, {pair.prompt for pair in pairs})
    assert prompts
    assert not set(prompts) & {pair.prompt for pair in pairs}


def test_a_held_out_combination_in_the_wrong_split_is_left_out_and_counted() -> None:
    spec = SceneSpec("white", (SceneObject("star", "red", "large", (0.2, 0.2, 0.8, 0.8)),), None, None, "flat", "single")
    row = ManifestRow("s", "0.tar", 0, 1, "0" * 64, captions=captions_of(spec, np.random.default_rng(0)), scene=spec.to_json())
    rejected: Counter[str] = Counter()
    assert make_pairs([row], PairsConfig(), 0, rejected, RuleDegrader(0, "en")) == []
    assert rejected == {"held_out_combination": 1}


def test_the_same_seed_gives_the_same_pairs_and_they_survive_a_file(curated: Path, tmp_path: Path) -> None:
    pairs, rejected = training_pairs(curated, PairsConfig(max_pairs=20), 3)
    assert len(pairs) == 20
    assert training_pairs(curated, PairsConfig(max_pairs=20), 3)[0] == pairs
    write_pairs(tmp_path / "pairs", pairs, rejected, PairsConfig())
    assert read_pairs(tmp_path / "pairs") == pairs
    assert "20 reverse pairs" in (tmp_path / "pairs" / "README.md").read_text()
    (tmp_path / "pairs" / "pairs.jsonl").write_text('{"prompt": 1}\n')
    with pytest.raises(PairsError, match="is not a pair"):
        read_pairs(tmp_path / "pairs")


def test_the_pairs_folder_is_a_registry_dataset_with_its_card(curated: Path, tmp_path: Path) -> None:
    pairs, rejected = training_pairs(curated, PairsConfig(max_pairs=5), 3)
    write_pairs(tmp_path / "pairs", pairs, rejected, PairsConfig())
    store = open_store(f"file://{tmp_path}/store")
    registry = DataRegistry(create_repository(tmp_path / "registry.git"), store, identity="Ada Lovelace <ada@example.com>")
    assert registry.commit("prompt-pairs", tmp_path / "pairs", "First pairs") == "prompt-pairs@v1"
    registry.checkout("prompt-pairs@latest", tmp_path / "copy")
    assert read_pairs(tmp_path / "copy") == pairs
    assert (tmp_path / "copy" / "README.md").is_file()


def test_a_manifest_without_long_captions_is_refused(tmp_path: Path) -> None:
    row = ManifestRow("s", "0.tar", 0, 1, "0" * 64, captions=(Caption("short", "en", "a circle"),))
    write_manifest(tmp_path / "manifest.parquet", [row])
    with pytest.raises(PairsError, match="no_caption"):
        training_pairs(tmp_path, PairsConfig(), 0)


def test_a_degrader_that_fails_costs_a_pair_only() -> None:
    class Broken:
        def degrade(self, row: ManifestRow, caption: str, strategy: str) -> str:
            raise OSError("unreachable")

    rejected: Counter[str] = Counter()
    assert make_pairs(rows(6), PairsConfig(), 0, rejected, Broken()) == []
    assert rejected["degrader_OSError"] > 0


def test_rows_of_a_small_source_come_sooner_the_more_they_are_balanced() -> None:
    sources = ["scenes"] * 900 + ["posters"] * 100
    shares = []
    for balance in (0.0, 0.5, 1.0):
        order = draw_order(sources, balance, np.random.default_rng(0))
        assert sorted(order) == list(range(1000))
        shares.append(sum(sources[index] == "posters" for index in order[:100]) / 100)
    assert shares[0] == pytest.approx(0.1, abs=0.08)
    assert shares[1] == pytest.approx(0.25, abs=0.1)
    assert shares[2] == pytest.approx(0.45, abs=0.12)


def test_the_share_of_pairs_with_a_remark_is_the_configured_one(curated: Path) -> None:
    plain, some = (training_pairs(curated, PairsConfig(additions=share), 0)[0] for share in (0.0, 1.0))
    captions = {caption.text for row in rows() for caption in row.captions}
    assert all(pair.caption in captions for pair in plain)
    assert not any(pair.caption in captions for pair in some)


def test_attributes_go_and_quoted_words_stay() -> None:
    assert drop_attributes("an orange star and a red sign saying “BIG RED SALE”") == "a star and a sign saying “BIG RED SALE”"
