"""The two holdouts are apart from every text and picture that any stage trains on: captions, domain prompts (which distillation
draws), preference prompts, enhancer pairs, rated pictures.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from imagewright.config.data import DataConfig, EmojiConfig, ScenesConfig
from imagewright.config.enhancer import PairsConfig
from imagewright.config.latents import EncodingConfig
from imagewright.config.sft import SftConfig
from imagewright.curation.enhancer_pairs import training_pairs
from imagewright.curation.prompt_constraints import canonical_words, read_facts
from imagewright.curation.sft_data import PROMPTS_FILE, build_sft_data
from imagewright.data.latents import EncodedCaption, LatentsContract, LatentsWriter
from imagewright.data.manifest import ManifestRow
from imagewright.data.pixels import kept_rows
from imagewright.methods.aesthetic_run import TRAIN_SPLITS
from imagewright.methods.preference_prompts import choose_prompts
from imagewright.sources.ingest import ingest
from imagewright.sources.scene_spec import HELD_OUT_COLOUR_SHAPES, SHAPES, is_combination_held_out

HOLDOUTS = ("holdout_compositional", "holdout_concept")
POOL = DataConfig(
    scenes=ScenesConfig(num_samples=240, holdout_fraction=0.3, validation_fraction=0.1),
    emoji=EmojiConfig(num_concepts=20, size_px=32, holdout_fraction=0.4),
)


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curated")
    ingest(POOL, folder, seed=0)
    return folder


def english(rows: Iterable[ManifestRow]) -> list[str]:
    return [caption.text for row in rows for caption in row.captions if caption.language == "en"]


def named_combinations(text: str) -> set[tuple[object, ...]]:
    """Held-out combinations that a text names: coloured shapes, counted shapes, placed shapes."""
    words, facts = canonical_words(text), read_facts(text)
    counted = {(int(first), second) for first, second in pairwise(words) if first.isdigit() and second in SHAPES}
    placed = {(first, {"left": "left of"}.get(relation, relation), second) for first, relation, second in facts.placed}
    placed = {triple for triple in placed if triple[0] in SHAPES and triple[2] in SHAPES}
    return {found for found in counted | placed | (facts.coloured & HELD_OUT_COLOUR_SHAPES) if is_combination_held_out(found)}


def captions(curated: Path, folder: Path) -> list[str]:
    return english(kept_rows(curated, EncodingConfig().splits))


def domain_prompts(curated: Path, folder: Path) -> list[str]:
    """Prompts of the dataset that fine-tuning trains on and distillation draws from."""
    contract = LatentsContract(vae_digest="v" * 64, stride=8, channels=2, text_dim=2, max_tokens=8)
    with LatentsWriter(folder / "latents", contract, torch.zeros(1, 2)) as writer:
        for row in kept_rows(curated, EncodingConfig().splits):
            writer.add(row.sample_key, torch.zeros(2, 4, 4), [EncodedCaption("long", torch.zeros(1, 2))])
    (folder / "sft").mkdir()

    def encode(texts: Sequence[str]) -> list[Tensor]:
        return [torch.zeros(1, 2) for _ in texts]

    build_sft_data(SftConfig(), curated, folder / "latents", encode, folder / "sft", seed=0)
    lines = (folder / "sft" / PROMPTS_FILE).read_text(encoding="utf-8").splitlines()
    return [prompt["text"] for line in lines for prompt in json.loads(line)["prompts"]]


def preference_prompts(curated: Path, folder: Path) -> list[str]:
    return [prompt.text for prompt in choose_prompts(curated, 1000, seed=0)]


def enhancer_texts(curated: Path, folder: Path) -> list[str]:
    pairs, _ = training_pairs(curated, PairsConfig(), 0)
    return [text for pair in pairs for text in (pair.prompt, pair.caption)]


@pytest.mark.parametrize("stage", [captions, domain_prompts, preference_prompts, enhancer_texts])
def test_no_text_of_a_stage_names_a_held_out_combination_or_is_a_held_out_prompt(stage, curated: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    texts = stage(curated, tmp_path)
    assert len(texts) > 50
    assert {text: named for text in texts if (named := named_combinations(text))} == {}
    assert not set(texts) & set(english(kept_rows(curated, HOLDOUTS)))


def test_the_reader_of_combinations_sees_those_of_the_holdout(curated: Path) -> None:
    rows = kept_rows(curated, ("holdout_compositional",))
    seen = [row for row in rows if any(named_combinations(text) for text in english([row]))]
    assert len(seen) > 0.9 * len(rows)
    kinds = {tuple(map(type, combination)) for text in english(rows) for combination in named_combinations(text)}
    assert kinds == {(str, str), (int, str), (str, str, str)}


def test_a_held_out_concept_has_no_picture_in_any_training_split_whatever_its_style(curated: Path) -> None:
    held_out = kept_rows(curated, ("holdout_concept",))
    trained = kept_rows(curated, tuple({*EncodingConfig().splits, *TRAIN_SPLITS, "train"}))
    assert held_out and {row.source for row in held_out} == {"openmoji", "noto"}
    assert not {row.concept for row in held_out} & {row.concept for row in trained if row.source in ("openmoji", "noto")}
    assert not {row.sha256 for row in kept_rows(curated, HOLDOUTS)} & {row.sha256 for row in trained}
