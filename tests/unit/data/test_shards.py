"""Shards: what a reader sees when writing finished, stopped half-way, or the file was damaged later."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from imagewright.data.shards import ShardError, ShardReader, ShardWriter, check_shards, index_path, iterate_shards, list_shards


def write(folder: Path, count: int, per_shard: int = 4) -> list[bytes]:
    payloads = [bytes([i]) * (100 + i) for i in range(count)]
    with ShardWriter(folder, per_shard) as writer:
        for i, payload in enumerate(payloads):
            writer.add(f"key-{i}", "png", payload, {"n": i})
    return payloads


def test_every_sample_reads_back_byte_for_byte(tmp_path: Path) -> None:
    payloads = write(tmp_path, 10)
    with ShardReader(tmp_path) as reader:
        assert [reader.read_location(location) for location in iterate_shards(tmp_path)] == payloads
    assert [path.name for path in list_shards(tmp_path)] == ["shard-00000.tar", "shard-00001.tar", "shard-00002.tar"]


def test_a_shard_is_an_ordinary_tar_with_metadata_beside_each_image(tmp_path: Path) -> None:
    write(tmp_path, 2)
    with tarfile.open(tmp_path / "shard-00000.tar") as tar:
        assert tar.getnames() == ["key-0.png", "key-0.json", "key-1.png", "key-1.json"]


def test_equal_samples_make_equal_shards(tmp_path: Path) -> None:
    write(tmp_path / "a", 3)
    write(tmp_path / "b", 3)
    assert (tmp_path / "a/shard-00000.tar").read_bytes() == (tmp_path / "b/shard-00000.tar").read_bytes()


def test_a_stopped_writer_leaves_only_finished_shards(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), ShardWriter(tmp_path, 2) as writer:
        for i in range(3):
            writer.add(f"k{i}", "png", b"x", {})
        raise KeyboardInterrupt
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shard-00000.index.jsonl", "shard-00000.tar"]


def test_a_shard_cut_in_the_middle_is_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    write(tmp_path, 8)
    shard = tmp_path / "shard-00001.tar"
    shard.write_bytes(shard.read_bytes()[:2100])
    found = check_shards(tmp_path)
    assert (found.num_samples, found.num_good) == (8, 5)
    assert set(found.damaged.values()) == {"lies in a shard that was cut"}


def test_a_changed_byte_is_found_by_its_digest(tmp_path: Path) -> None:
    write(tmp_path, 2)
    shard = tmp_path / "shard-00000.tar"
    content = bytearray(shard.read_bytes())
    content[520] ^= 1
    shard.write_bytes(content)
    assert check_shards(tmp_path).damaged == {"key-0": "does not match its digest"}


def test_a_missing_shard_and_a_cut_index_are_counted(tmp_path: Path) -> None:
    write(tmp_path, 8)
    index = index_path(tmp_path / "shard-00001.tar")
    index.write_text("\n".join(index.read_text().splitlines()[:-1]))
    (tmp_path / "shard-00002.tar").write_bytes(b"no index")
    found = check_shards(tmp_path)
    assert found.num_good == 4
    assert [name.split(":")[0] for name in found.unfinished] == ["shard-00002.tar", "shard-00001.tar"]


@pytest.mark.parametrize("key", ["", "../up", "a b", "x" * 81, "é"])
def test_a_malformed_key_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ShardError, match="sample_key"), ShardWriter(tmp_path) as writer:
        writer.add(key, "png", b"x", {})


def test_a_key_used_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="used once"), ShardWriter(tmp_path, 1) as writer:
        writer.add("same", "png", b"x", {})
        writer.add("same", "png", b"y", {})


def test_a_location_outside_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "shards").mkdir()
    with pytest.raises(ShardError, match="impossible"):
        ShardReader(tmp_path / "shards").read("../secret", 0, 6, "0" * 64)
