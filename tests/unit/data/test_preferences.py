"""A set of pairs tells what is in it, and one that cannot be trained on is refused by name."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from imagewright.data.latents import EncodedCaption, LatentsContract, LatentsWriter
from imagewright.data.pair_loader import split_held_out
from imagewright.data.preferences import Pair, PreferenceError, audit_pairs, read_pairs, read_sampled_from, write_pairs

CONTRACT = LatentsContract(stride=16, channels=2, text_dim=3)


def pair(number: int, **changes: Any) -> Pair:
    values: dict[str, Any] = {
        "pair_id": f"p{number}",
        "prompt": f"prompt {number}",
        "chosen_key": f"c{number}",
        "rejected_key": f"r{number}",
        "source": "model",
        "margin": 0.5,
        "chosen_score": 1.0,
        "rejected_score": 0.5,
        "dimension": "colour",
    }
    return Pair(**{**values, **changes})


def write_set(folder: Path, pairs: list[Pair], difference: float = 1.0, width: int = 2, prompt_shift: float = 0.0) -> Path:
    with LatentsWriter(folder, CONTRACT, torch.zeros(1, 3)) as writer:
        for number in range(3):
            latents = torch.randn(2, 2, 2, generator=torch.Generator().manual_seed(number))
            words = torch.ones(number + 1, 3)
            writer.add(f"c{number}", latents, [EncodedCaption("short", words)])
            other = (latents * (1 - difference)).repeat(1, 1, width // 2)
            writer.add(f"r{number}", other, [EncodedCaption("short", words + prompt_shift)])
    write_pairs(folder, pairs)
    return folder


def test_the_audit_counts_ties_duplicates_sources_and_margins(tmp_path: Path) -> None:
    pairs = [pair(0, margin=0.25), pair(1, source="human", margin=1.0), pair(2, margin=0.0)]
    audit = audit_pairs(write_set(tmp_path, pairs, difference=0.5), 0.0)
    assert (audit.pairs, audit.usable, audit.ties, audit.near_duplicates) == (3, 2, 1, 0)
    assert audit.sources == {"model": 1, "human": 1}
    assert sum(audit.margin_histogram) == 2 and audit.margin_histogram[-1] == 1
    assert audit.spread_bias == pytest.approx(math.log(2), abs=0.01)
    assert read_pairs(tmp_path) == pairs


def test_pairs_that_hardly_differ_are_counted(tmp_path: Path) -> None:
    folder = write_set(tmp_path, [pair(number) for number in range(3)], difference=0.1)
    assert audit_pairs(folder, 0.08).near_duplicates == 0
    assert audit_pairs(folder, 0.13).near_duplicates == 3


@pytest.mark.parametrize(
    ("pairs", "options", "says"),
    [
        ([pair(0)], {"difference": 0.0}, "two different images"),
        ([pair(0)], {"width": 4}, "images of one size"),
        ([pair(0)], {"prompt_shift": 1.0}, "same prompt"),
        ([pair(0, rejected_key="gone")], {}, "not in the set"),
        ([pair(0), pair(0)], {}, "id of several pairs"),
        ([pair(0, source="rumour")], {}, "source"),
        ([pair(0, margin=-0.1)], {}, "margin"),
        ([pair(0, margin=float("nan"))], {}, "margin"),
    ],
)
def test_an_unusable_set_is_refused(tmp_path: Path, pairs: list[Pair], options: dict[str, float], says: str) -> None:
    with pytest.raises(PreferenceError, match=says):
        audit_pairs(write_set(tmp_path, pairs, **options), 0.0)


def test_a_set_without_pairs_is_reported_and_a_file_that_is_no_table_refused(tmp_path: Path) -> None:
    write_pairs(tmp_path, [])
    assert audit_pairs(tmp_path, 0.0).usable == 0
    (tmp_path / "pairs.parquet").write_bytes(b"not a table")
    with pytest.raises(PreferenceError, match="readable"):
        audit_pairs(tmp_path, 0.0)


@pytest.mark.parametrize("content", ["no json", "[]", '"text"'])
def test_an_audit_that_says_nothing_is_refused_and_a_missing_one_names_no_model(tmp_path: Path, content: str) -> None:
    assert read_sampled_from(tmp_path) == ""
    (tmp_path / "audit.json").write_text(content)
    with pytest.raises(PreferenceError, match=r"readable audit\.json"):
        read_sampled_from(tmp_path)


def test_pairs_of_one_prompt_are_held_out_together() -> None:
    pairs = [pair(number, prompt=f"prompt {number // 2}") for number in range(400)]
    training, held_out = split_held_out(pairs, 0.2)
    assert not {found.prompt for found in training} & {found.prompt for found in held_out}
    assert 40 < len(held_out) < 120
    assert split_held_out(pairs, 0.0)[1] == []
