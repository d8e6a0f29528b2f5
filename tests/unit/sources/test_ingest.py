"""Ingest: a pool of shards whose manifest finds every image again."""

from __future__ import annotations

from pathlib import Path

from imagewright.config.data import DataConfig, ScenesConfig
from imagewright.data.manifest import read_manifest, table_to_rows
from imagewright.data.shards import SHARDS_FOLDER, ShardReader
from imagewright.sources.ingest import ingest

SECTION = DataConfig(scenes=ScenesConfig(num_samples=40), samples_per_shard=16)


def test_every_manifest_row_finds_its_image(tmp_path: Path) -> None:
    counts = ingest(SECTION, tmp_path, seed=0)
    rows = list(table_to_rows(read_manifest(tmp_path)))
    assert counts["num_samples"] == len(rows) >= 40
    with ShardReader(tmp_path / SHARDS_FOLDER) as reader:
        assert all(len(reader.read(row.shard, row.offset, row.length, row.sha256)) == row.length for row in rows)


def test_the_same_settings_give_the_same_pool(tmp_path: Path) -> None:
    for name in ("a", "b"):
        ingest(SECTION, tmp_path / name, seed=0)
    files = [sorted(path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*.*")) for name in ("a", "b")]
    assert files[0] == files[1]
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files[0])
