"""After a takedown a revision holds nothing of the samples, and every other sample as before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imagewright.data.shards import ShardReader, ShardWriter, check_shards, iterate_shards
from imagewright.errors import InputError
from imagewright.registry import DataRegistry

MakeFolder = Callable[..., Path]
REASON = "The photographer asked for it"


@pytest.fixture
def payload(tmp_path: Path) -> Path:
    """Nine samples in three shards and a manifest that points into them."""
    folder = tmp_path / "dataset"
    with ShardWriter(folder / "shards", samples_per_shard=3) as writer:
        places = [writer.add(f"cat-{index}", "png", f"image {index}".encode() * 99, {"number": index}) for index in range(9)]
    columns = {
        "sample_key": [place.sample_key for place in places],
        "shard": [place.shard for place in places],
        "offset": [place.offset for place in places],
        "length": [place.length for place in places],
        "sha256": [place.sha256 for place in places],
        "captions": [[{"form": "short", "text": f"A cat {index}"}] for index in range(9)],
        "score_aesthetic": pa.array([index / 10 for index in range(9)], pa.float32()),
    }
    pq.write_table(pa.table(columns), folder / "manifest.parquet", row_group_size=4)
    pq.write_table(pa.table({"sample_key": ["cat-1", "cat-2"], "vote": [1, 2]}), folder / "votes.parquet")
    return folder


def read_all(folder: Path) -> dict[str, bytes]:
    """Every sample that the manifest names, read where it says."""
    rows = pq.read_table(folder / "manifest.parquet").to_pylist()
    with ShardReader(folder / "shards") as reader:
        return {row["sample_key"]: reader.read(row["shard"], row["offset"], row["length"], row["sha256"]) for row in rows}


def test_the_samples_are_gone_and_all_others_are_where_the_manifest_says(registry: DataRegistry, payload: Path, tmp_path: Path) -> None:
    before = read_all(payload)
    registry.commit("raw", payload, "First")
    assert registry.remove_samples("raw", ["cat-1", "cat-3", "cat-4", "cat-5"], REASON) == "raw@v2"
    out = tmp_path / "out"
    registry.checkout("raw@v2", out)
    assert read_all(out) == {key: before[key] for key in ("cat-0", "cat-2", "cat-6", "cat-7", "cat-8")}
    assert sorted(place.sample_key for place in iterate_shards(out / "shards")) == ["cat-0", "cat-2", "cat-6", "cat-7", "cat-8"]
    assert check_shards(out / "shards").num_good == 5
    assert sorted(path.name for path in (out / "shards").glob("*.tar")) == ["shard-00000-kept1-00000.tar", "shard-00002.tar"]
    assert pq.read_table(out / "votes.parquet").to_pylist() == [{"sample_key": "cat-2", "vote": 2}]
    assert pq.read_schema(out / "manifest.parquet").remove_metadata() == pq.read_schema(payload / "manifest.parquet").remove_metadata()
    assert not any(b"image 1image 1" in path.read_bytes() for path in out.rglob("*") if path.is_file())
    message = registry.resolve("raw").message
    assert message == f"Remove 4 samples (5 rows) from raw@v1\n\n{REASON}"


def test_a_second_takedown_starts_from_the_first(registry: DataRegistry, payload: Path, tmp_path: Path) -> None:
    registry.commit("raw", payload, "First")
    registry.remove_samples("raw", ["cat-1"], REASON)
    assert registry.remove_samples("raw", ["cat-2"], REASON) == "raw@v3"
    registry.checkout("raw", tmp_path / "out")
    assert sorted(read_all(tmp_path / "out")) == ["cat-0", *(f"cat-{index}" for index in range(3, 9))]
    assert (tmp_path / "out/shards/shard-00000-kept2-00000.tar").is_file()
    rows = registry.diff("raw@v2", "raw@v3").rows
    assert rows is not None
    assert (rows.num_removed, rows.num_changed, rows.num_moved) == (1, 0, 1)


def test_unknown_keys_are_named_and_nothing_is_committed(registry: DataRegistry, payload: Path) -> None:
    registry.commit("raw", payload, "First")
    with pytest.raises(InputError, match=r"takedown\.keys: must all be in the dataset; 2 are not; received 'cat-9, dog'"):
        registry.remove_samples("raw", ["cat-1", "dog", "cat-9"], REASON)
    with pytest.raises(InputError, match=r"takedown\.keys: must name at least one sample"):
        registry.remove_samples("raw", [], REASON)
    assert registry.resolve("raw").version == 1


def test_a_file_that_may_hold_the_sample_stops_the_takedown(registry: DataRegistry, payload: Path) -> None:
    (payload / "notes.jsonl").write_text('{"key": "cat-1"}\n')
    (payload / "harmless.txt").write_text("cat-10 and tomcat-1 and cat-1-b")
    registry.commit("raw", payload, "First")
    with pytest.raises(InputError, match=r"takedown\.dataset: a file of another kind mentions a sample; received 'notes\.jsonl'") as caught:
        registry.remove_samples("raw", ["cat-1"], REASON)
    assert len(caught.value.problems) == 1


def test_a_dataset_without_a_manifest_has_no_samples_to_remove(registry: DataRegistry, make_folder: MakeFolder) -> None:
    registry.commit("raw", make_folder({"a.txt": "one"}), "First")
    with pytest.raises(InputError, match=r"takedown\.dataset: must hold a manifest"):
        registry.remove_samples("raw", ["cat-1"], REASON)
