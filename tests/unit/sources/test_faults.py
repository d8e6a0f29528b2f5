"""Known faults: each is really there, and the side table names it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from imagewright.config.data import CorruptConfig, ScenesConfig
from imagewright.data.images import BadImage, decode_rgb, read_header
from imagewright.sources.faults import Fault, corrupt
from imagewright.sources.samples import RawSample
from imagewright.sources.scenes import scene_samples

CLEAN = list(scene_samples(ScenesConfig(num_samples=60, size_px=48), 0))
BY_KEY = {sample.sample_key: sample for sample in CLEAN}


def with_fault(name: str) -> Iterator[tuple[RawSample, RawSample]]:
    """Pairs (faulty sample, its origin) of a pool in which every sample gets the fault."""
    faults: list[Fault] = []
    pool = {sample.sample_key: sample for sample in corrupt(CLEAN, CorruptConfig(**{name: 1.0}), 0, faults)}
    assert {fault.fault for fault in faults} == {name}
    return ((pool[fault.sample_key], BY_KEY[fault.origin]) for fault in faults)


def test_a_clean_setting_changes_nothing() -> None:
    faults: list[Fault] = []
    assert list(corrupt(CLEAN, CorruptConfig(), 0, faults)) == CLEAN
    assert faults == []


def test_duplicates_are_added_beside_their_origin() -> None:
    faults: list[Fault] = []
    pool = list(corrupt(CLEAN, CorruptConfig(exact_duplicate=1.0), 0, faults))
    assert len(pool) == 2 * len(CLEAN)
    assert all(faulty.image == origin.image and faulty.sample_key != origin.sample_key for faulty, origin in with_fault("exact_duplicate"))
    assert all(faulty.image != origin.image for faulty, origin in with_fault("near_duplicate"))


@pytest.mark.parametrize("name", ["broken", "bomb"])
def test_a_broken_file_cannot_be_decoded(name: str) -> None:
    for faulty, _ in with_fault(name):
        with pytest.raises(BadImage):
            decode_rgb(faulty.image)
        assert len(faulty.image) < 2000


def test_tiny_files_are_tiny() -> None:
    assert all(max(read_header(faulty.image).width, faulty.height) < 15 for faulty, _ in with_fault("tiny"))


def test_a_wrong_caption_stays_inside_the_training_split() -> None:
    for faulty, origin in with_fault("wrong_caption"):
        assert faulty.captions != origin.captions
        assert faulty.split == "train"
        assert faulty.scene == origin.scene


def test_shares_decide_how_many_samples_get_a_fault() -> None:
    faults: list[Fault] = []
    pool = list(corrupt(CLEAN * 10, CorruptConfig(blur=0.2, watermark=0.1), 0, faults))
    assert len(pool) == 600
    assert 85 < sum(fault.fault == "blur" for fault in faults) < 155
    with pytest.raises(ValueError, match="at most 1"):
        CorruptConfig(blur=0.6, tiny=0.5)
