"""How two manifests differ, on tables small enough to count by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imagewright.errors import InputError
from imagewright.registry import DataRegistry
from imagewright.registry.difference import Difference


def row(key: str, **values: Any) -> dict[str, Any]:
    """One kept sample; only the columns that matter here."""
    plain = {"shard": "shard-00000.tar", "offset": 512, "length": 10, "width": 512, "height": 512, "source": "emoji", "category": "animal"}
    captions = [{"form": "short", "language": "en", "text": f"A {key}"}]
    return {"sample_key": key, **plain, "captions": captions, "score_aesthetic": 0.5, "drop_reason": "", **values}


def difference_of(registry: DataRegistry, folder: Path, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> Difference:
    for number, rows in enumerate((before, after)):
        payload = folder / f"payload{number}"
        payload.mkdir()
        pq.write_table(pa.Table.from_pylist(rows), payload / "manifest.parquet")
        registry.commit("curated", payload, "A manifest")
    return registry.diff("curated@v1", "curated@v2")


def test_rows_are_told_apart_by_their_key(registry: DataRegistry, tmp_path: Path) -> None:
    before = [row("a"), row("b"), row("c"), row("d"), row("e")]
    other_captions = [{"form": "short", "language": "en", "text": "Another"}]
    after = [
        row("b"),
        row("c", shard="shard-00001.tar"),
        row("d", category="food", score_aesthetic=0.75),
        row("e", captions=other_captions),
    ]
    after += [row("f"), row("g")]
    rows = difference_of(registry, tmp_path, before, after).rows
    assert rows is not None
    assert (rows.num_before, rows.num_after) == (5, 6)
    assert (rows.num_added, rows.num_removed, rows.num_changed, rows.num_moved) == (2, 1, 2, 1)
    assert rows.changed_columns == {"category": 1, "captions": 1, "score_aesthetic": 1}
    assert (rows.examples_added, rows.examples_removed, rows.examples_changed) == (("f", "g"), ("a",), ("d", "e"))


def test_new_and_lost_columns_are_named_and_not_compared(registry: DataRegistry, tmp_path: Path) -> None:
    after = [{**row("a"), 'odd "name"': 1}]
    del after[0]["score_aesthetic"]
    rows = difference_of(registry, tmp_path, [row("a")], after).rows
    assert rows is not None
    assert (rows.new_columns, rows.lost_columns, rows.num_changed) == (('odd "name"',), ("score_aesthetic",), 0)


def test_distributions_are_those_of_kept_rows(registry: DataRegistry, tmp_path: Path) -> None:
    before = [row("a", category="animal"), row("b", category="food", width=1024), row("c", category="food", source="poster")]
    after = [
        row("a", category="animal"),
        row("b", category="food", width=1024, drop_reason="blurred"),
        row("c", category="food", source="poster"),
    ]
    difference = difference_of(registry, tmp_path, before, after)
    categories = {shift.column: shift for shift in difference.categories}
    assert set(categories) == {"category", "source", "drop_reason"}
    assert categories["category"].values == (("animal", 1, 1), ("food", 2, 1))
    assert categories["drop_reason"].values == (("", 3, 2), ("blurred", 0, 1))
    assert categories["category"].divergence > 0
    numbers = {shift.column: shift for shift in difference.numbers}
    assert set(numbers) == {"size_megapixels", "aspect_ratio", "score_aesthetic"}
    assert numbers["aspect_ratio"].mean_before == pytest.approx(4 / 3)
    assert numbers["aspect_ratio"].mean_after == 1.0
    assert numbers["size_megapixels"].mean_after == pytest.approx(0.262144)
    assert numbers["score_aesthetic"].stability_index == 0.0


def test_a_manifest_in_several_files_is_one(registry: DataRegistry, tmp_path: Path) -> None:
    for number, parts in enumerate(([[row("a")], [row("b")]], [[row("b")], [row("c")]])):
        payload = tmp_path / f"payload{number}"
        payload.mkdir()
        for index, rows in enumerate(parts):
            pq.write_table(pa.Table.from_pylist(rows), payload / f"part-{index}.parquet")
        pq.write_table(pa.table({"word": ["not a manifest"]}), payload / "words.parquet")
        registry.commit("curated", payload, "A manifest")
    found = registry.diff("curated@v1", "curated@v2").rows
    assert found is not None
    assert (found.num_added, found.num_removed, found.num_changed) == (1, 1, 0)


@pytest.mark.parametrize(
    ("rows", "shown"), [([row("a"), row("a")], "'a'"), ([row("a"), {**row("b"), "sample_key": None}], "'an empty key'")]
)
def test_a_key_that_is_used_twice_or_empty_is_refused(
    registry: DataRegistry, tmp_path: Path, rows: list[dict[str, Any]], shown: str
) -> None:
    with pytest.raises(InputError, match=rf"manifest\.sample_key: must be used once in curated@v2; received {shown}"):
        difference_of(registry, tmp_path, [row("a")], rows)
