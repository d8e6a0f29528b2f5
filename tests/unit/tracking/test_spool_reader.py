"""Reading a spool back: batches with fixed boundaries, damaged lines stepped over, nothing sent twice once acknowledged."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagewright.tracking.spool import TORN, encode
from imagewright.tracking.spool_reader import MAX_POINTS, SpoolReader


def write(folder: Path, *lines: bytes, segment: int = 1) -> None:
    with (folder / f"{segment:08d}.log").open("ab") as file:
        file.write(b"".join(lines))


def point(step: int, num_values: int = 1, **extra: str) -> bytes:
    return encode({"k": "m", "t": step, "s": step, "v": {f"m{index}": 1.0 for index in range(num_values)}} | extra)


@pytest.mark.parametrize(("per_line", "first_batch"), [(1, MAX_POINTS), (250, MAX_POINTS), (251, 753)])
def test_a_batch_holds_at_most_what_one_request_may(tmp_path: Path, per_line: int, first_batch: int) -> None:
    write(tmp_path, *(point(step, per_line) for step in range(2000 // per_line + 1)))
    batch = SpoolReader(tmp_path).next_batch()
    assert batch is not None
    assert batch.num_points == first_batch


def test_a_batch_that_was_sent_but_not_acknowledged_comes_again_with_the_same_boundaries(tmp_path: Path) -> None:
    write(tmp_path, *(point(step) for step in range(10)))
    first = SpoolReader(tmp_path).next_batch()
    write(tmp_path, *(point(step) for step in range(10, 20)))
    reader = SpoolReader(tmp_path)
    again = reader.next_batch()
    assert first is not None and again is not None
    assert again.entries == first.entries
    reader.acknowledge()
    later = SpoolReader(tmp_path).next_batch()
    assert later is not None
    assert [entry["s"] for entry in later.entries] == list(range(10, 20))


def test_kinds_and_destinations_are_not_mixed_and_keep_their_order(tmp_path: Path) -> None:
    write(tmp_path, point(0), point(1, to="parent"), encode({"k": "t", "v": {"stage": "sft"}}), point(2), point(3))
    reader = SpoolReader(tmp_path)
    seen = []
    while (batch := reader.next_batch()) is not None:
        seen.append([(entry["k"], entry.get("s"), entry.get("to")) for entry in batch.entries])
        reader.acknowledge()
    assert seen == [[("m", 0, None)], [("m", 1, "parent")], [("t", None, None)], [("m", 2, None), ("m", 3, None)]]


def test_half_a_line_waits_for_its_end(tmp_path: Path) -> None:
    write(tmp_path, point(0)[:-5])
    reader = SpoolReader(tmp_path)
    assert reader.next_batch() is None
    write(tmp_path, point(0)[-5:])
    assert reader.next_batch() is not None


def test_damaged_lines_are_stepped_over_and_counted_but_torn_ones_are_known(tmp_path: Path) -> None:
    write(tmp_path, point(0), b"garbage\n", point(1)[:20] + TORN + b"\n", point(1))
    reader = SpoolReader(tmp_path)
    batch = reader.next_batch()
    assert batch is not None
    assert [entry["s"] for entry in batch.entries] == [0, 1]
    assert reader.num_damaged == 1


def test_a_segment_of_damage_only_does_not_stop_the_next_one(tmp_path: Path) -> None:
    write(tmp_path, b"\x00" * 100 + b"\n")
    write(tmp_path, point(7), segment=2)
    batch = SpoolReader(tmp_path).next_batch()
    assert batch is not None
    assert [entry["s"] for entry in batch.entries] == [7]


def test_a_line_longer_than_one_read_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagewright.tracking.spool_reader.READ_BYTES", 64)
    write(tmp_path, point(0, 500), point(1))
    reader = SpoolReader(tmp_path)
    steps = []
    while (batch := reader.next_batch()) is not None:
        steps += [entry["s"] for entry in batch.entries]
        reader.acknowledge()
    assert steps == [0, 1]
