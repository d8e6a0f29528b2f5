"""Segments of one length need no padding; a bucket is split when its padding costs more than one more call."""

from __future__ import annotations

import pytest
import torch

from imagewright.models.buckets import plan_buckets

CPU = torch.device("cpu")


def test_equal_lengths_share_one_bucket_without_tables() -> None:
    (bucket,) = plan_buckets((7, 7, 7), CPU)
    assert (bucket.start, bucket.rows, bucket.batch, bucket.length) == (0, 21, 3, 7)
    assert bucket.gather is None and bucket.slots is None and bucket.valid is None


def test_slots_hold_every_row_once_and_pads_are_not_valid() -> None:
    (bucket,) = plan_buckets((2, 3), CPU)
    assert bucket.gather is not None and bucket.slots is not None and bucket.valid is not None
    assert bucket.gather.tolist() == [0, 1, 0, 2, 3, 4]
    assert bucket.slots.tolist() == [0, 1, 3, 4, 5]
    assert bucket.valid.flatten().tolist() == [True, True, False, True, True, True]
    assert torch.equal(bucket.gather[bucket.slots], torch.arange(5))


@pytest.mark.parametrize(("bucket_cost", "expected"), [(35, 2), (37, 1)])
def test_a_bucket_is_split_just_when_its_padding_costs_more(bucket_cost: int, expected: int) -> None:
    # lengths 8 and 10: padding the first to 10 costs 10 * 10 - 8 * 8 = 36 pairs
    assert len(plan_buckets((8, 10), CPU, bucket_cost)) == expected


def test_buckets_cover_all_segments_in_order() -> None:
    lengths = tuple(sorted(torch.randint(10, 600, (50,), generator=torch.Generator().manual_seed(0)).tolist()))
    buckets = plan_buckets(lengths, CPU)
    assert [bucket.start for bucket in buckets] == [sum(b.rows for b in buckets[:index]) for index in range(len(buckets))]
    assert sum(bucket.rows for bucket in buckets) == sum(lengths)
    assert sum(bucket.batch for bucket in buckets) == 50
