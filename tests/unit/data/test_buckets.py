"""Aspect buckets: sides fit the stride, areas stay near the stage's, and a picture lands in the bucket nearest its shape."""

from __future__ import annotations

import numpy as np
import pytest

from imagewright.data.buckets import RELEASED_SIZES_1024, Bucket, BucketError, aspect_buckets, fit_to_bucket, latent_stride, nearest_bucket


def test_the_stride_follows_the_vae() -> None:
    assert latent_stride((128, 256, 512, 512)) == 16
    assert latent_stride((32, 64, 64)) == 8


@pytest.mark.parametrize(("resolution", "stride"), [(32, 8), (64, 16), (256, 16), (512, 16), (1024, 16)])
def test_sides_are_multiples_of_the_stride_and_areas_near_the_stage(resolution: int, stride: int) -> None:
    buckets = aspect_buckets(resolution, stride)
    assert Bucket(resolution, resolution) in buckets
    for bucket in buckets:
        assert bucket.height % stride == 0 == bucket.width % stride
        assert 0.5 <= bucket.aspect <= 2.0
        assert abs(bucket.height * bucket.width / resolution**2 - 1) <= 0.15


def test_the_released_sizes_are_buckets_of_the_last_stage() -> None:
    buckets = aspect_buckets(1024, 16)
    assert {Bucket(*size) for size in RELEASED_SIZES_1024} <= set(buckets)
    assert Bucket(1264, 848).num_tokens(16) == 4187


def test_a_resolution_off_the_stride_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(BucketError, match="use 1008"):
        aspect_buckets(1020, 16)


def test_a_picture_goes_to_the_bucket_of_its_shape() -> None:
    buckets = aspect_buckets(256, 16)
    assert nearest_bucket(500, 500, buckets) == Bucket(256, 256)
    wide, tall = nearest_bucket(300, 600, buckets), nearest_bucket(600, 300, buckets)
    assert (wide.height, wide.width) == (tall.width, tall.height)
    assert wide.aspect > 1.5


def test_fitting_covers_the_bucket_and_keeps_the_middle() -> None:
    image = np.zeros((40, 100, 3), np.uint8)
    image[:, 40:60] = 255
    fitted = fit_to_bucket(image, Bucket(32, 32))
    assert fitted.shape == (32, 32, 3)
    assert fitted[16, 16].tolist() == [255, 255, 255]
    assert fitted[16, 0].tolist() == [0, 0, 0]
    same = np.zeros((32, 32, 3), np.uint8)
    assert np.array_equal(fit_to_bucket(same, Bucket(32, 32)), same)
