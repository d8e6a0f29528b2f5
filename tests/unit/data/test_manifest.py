"""The manifest: what is written reads back, and what is not a manifest is named column by column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imagewright.data.manifest import (
    Caption,
    ManifestError,
    ManifestRow,
    ManifestWriter,
    read_manifest,
    rows_to_table,
    table_to_rows,
    write_manifest,
)

ROW = ManifestRow("k0", "shard-00000.tar", 512, 10, "0" * 64, captions=(Caption("short", "zh", "红色"),), phash=2**64 - 1)
DROPPED = ManifestRow("k1", "shard-00000.tar", 2048, 10, "1" * 64, split="validation", drop_reason="blur")


def test_rows_read_back_as_written(tmp_path: Path) -> None:
    assert write_manifest(tmp_path / "manifest.parquet", [ROW, DROPPED]) == 2
    assert list(table_to_rows(read_manifest(tmp_path))) == [ROW, DROPPED]


def test_rows_can_be_chosen_by_split_and_decision(tmp_path: Path) -> None:
    write_manifest(tmp_path / "manifest.parquet", [ROW, DROPPED])
    assert read_manifest(tmp_path, kept=True, columns=["sample_key"])["sample_key"].to_pylist() == ["k0"]
    assert read_manifest(tmp_path, splits=["validation"])["sample_key"].to_pylist() == ["k1"]
    assert read_manifest(tmp_path, splits=["validation"], kept=True).num_rows == 0


def test_scores_are_kept_as_float32_after_the_fixed_columns(tmp_path: Path) -> None:
    table = rows_to_table([ROW]).append_column("score_blur", pa.array([0.5], pa.float64()))
    write_manifest(tmp_path / "m.parquet", table)
    read = read_manifest(tmp_path / "m.parquet")
    assert read.column_names[-1] == "score_blur"
    assert read.schema.field("score_blur").type == pa.float32()


def test_streaming_writes_the_same_table(tmp_path: Path) -> None:
    with ManifestWriter(tmp_path / "manifest.parquet", rows_per_group=1) as writer:
        writer.add(ROW)
        writer.add(DROPPED)
    assert list(table_to_rows(read_manifest(tmp_path))) == [ROW, DROPPED]


def test_a_stopped_writer_leaves_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), ManifestWriter(tmp_path / "manifest.parquet") as writer:
        writer.add(ROW)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_every_wrong_column_is_named(tmp_path: Path) -> None:
    table = rows_to_table([ROW]).drop_columns(["captions"]).append_column("blur", pa.array([1.0]))
    pq.write_table(table, tmp_path / "manifest.parquet")
    with pytest.raises(ManifestError) as caught:
        write_manifest(tmp_path / "out.parquet", table)
    assert [problem.key for problem in caught.value.problems] == ["manifest.captions", "manifest.blur"]
    with pytest.raises(ManifestError, match=r"manifest\.captions"):
        read_manifest(tmp_path)


def test_values_that_types_cannot_check_are_refused(tmp_path: Path) -> None:
    bad = ManifestRow("k0", "s", 0, 0, "xyz", split="test", sampling_weight=float(np.nan))
    with pytest.raises(ManifestError) as caught:
        write_manifest(tmp_path / "m.parquet", [bad, bad])
    assert [problem.key.removeprefix("manifest.") for problem in caught.value.problems] == [
        "sample_key", "split", "sha256", "sampling_weight"]  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.parquet").write_bytes(b"not parquet")
    with pytest.raises(ManifestError, match="cannot be read"):
        read_manifest(tmp_path)
