"""Continuous batching never changes an image, never swaps two, never loses one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imagewright.serving.bundle import Bundle, empty_prompt, load_bundle
from imagewright.serving.denoising import ImageRequest
from imagewright.serving.engine import Engine, EngineStoppedError, QueueFullError

SIZES = ((32, 32), (48, 24), (16, 64))


@pytest.fixture(scope="module")
def bundle(bundle_folder: Path) -> Bundle:
    return load_bundle(bundle_folder)


@pytest.fixture(params=[1, 3])
def engine(bundle: Bundle, request: pytest.FixtureRequest) -> Iterator[Engine]:
    made = Engine(bundle, max_queue=64, max_batch_tokens=600, num_workers=request.param)
    yield made
    made.drain(30)


def image_request(bundle: Bundle, number: int) -> ImageRequest:
    prompt = bundle.text_encoder.encode([f"{number} red circles"])[0]
    return ImageRequest(prompt, empty_prompt(bundle), SIZES[number % 3], number, 2 + number % 4, 1.0 if number % 2 else 3.0)


def alone(bundle: Bundle, number: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    single = Engine(bundle, max_queue=1, max_batch_tokens=600)
    image = single.submit([image_request(bundle, number)])[0].result(60)
    single.drain(10)
    return image


def test_mixed_sizes_steps_and_guidance_come_back_as_if_drawn_alone(bundle: Bundle, engine: Engine) -> None:
    futures = engine.submit([image_request(bundle, number) for number in range(18)])
    expected = [alone(bundle, number) for number in range(18)]
    for future, image in zip(futures, expected, strict=True):
        assert np.abs(future.result(60).astype(int) - image.astype(int)).max() <= 1
    assert len({image.tobytes() for image in expected}) == 18  # otherwise a swap would not show


def test_a_full_queue_refuses_the_whole_request_at_once(bundle: Bundle) -> None:
    engine = Engine(bundle, max_queue=3, max_batch_tokens=600)
    slow = [replace(image_request(bundle, number), num_steps=100) for number in range(3)]
    futures = engine.submit(slow)
    with pytest.raises(QueueFullError) as caught:
        engine.submit(slow[:1])
    assert caught.value.retry_after_seconds >= 1
    assert [future.result(60).ndim for future in futures] == [3, 3, 3]
    assert engine.drain(10)


def test_a_cancelled_image_leaves_and_the_others_finish(bundle: Bundle, engine: Engine) -> None:
    futures = engine.submit([replace(image_request(bundle, number), num_steps=30) for number in range(6)])
    assert futures[3].cancel()
    assert [future.result(60).ndim for number, future in enumerate(futures) if number != 3] == [3] * 5


def test_draining_finishes_what_was_taken_and_takes_nothing_new(bundle: Bundle) -> None:
    engine = Engine(bundle, max_queue=64, max_batch_tokens=600, num_workers=2)
    futures = engine.submit([image_request(bundle, number) for number in range(5)])
    assert engine.drain(60)
    assert all(future.done() for future in futures)
    with pytest.raises(EngineStoppedError):
        engine.submit([image_request(bundle, 0)])


def test_an_image_larger_than_the_budget_still_runs(bundle: Bundle) -> None:
    engine = Engine(bundle, max_queue=4, max_batch_tokens=1)
    assert engine.submit([image_request(bundle, 0)])[0].result(60).shape == (32, 32, 3)
    assert engine.drain(10)


def test_a_failure_reaches_its_request_and_no_other(bundle: Bundle, engine: Engine) -> None:
    broken = ImageRequest(empty_prompt(bundle)[:, :5], empty_prompt(bundle), (32, 32), 0, 2, 1.0)
    futures = engine.submit([image_request(bundle, 0), broken, image_request(bundle, 1)])
    with pytest.raises(RuntimeError, match="mat1"):
        engine.submit([broken])[0].result(60)
    with pytest.raises((RuntimeError, ValueError)):
        futures[1].result(60)
    assert np.abs(futures[0].result(60).astype(int) - alone(bundle, 0).astype(int)).max() <= 1
    assert futures[2].result(60).ndim == 3
    assert engine.submit([image_request(bundle, 1)])[0].result(60).ndim == 3


def test_a_promised_place_counts_holds_through_a_drain_and_is_given_back(bundle: Bundle) -> None:
    engine = Engine(bundle, max_queue=2, max_batch_tokens=600)
    with engine.reserve(2) as hand_in:
        with pytest.raises(QueueFullError), engine.reserve(1):
            pass
        assert not engine.drain(0.0)
        assert [future.result(60).ndim for future in hand_in([image_request(bundle, 0), image_request(bundle, 1)])] == [3, 3]
    assert engine.drain(30)
    unused = Engine(bundle, max_queue=2, max_batch_tokens=600)
    with unused.reserve(2):
        assert unused.load == 2
    assert unused.load == 0
    assert unused.drain(30)


def test_an_idle_engine_takes_more_images_than_its_queue_holds(bundle: Bundle) -> None:
    engine = Engine(bundle, max_queue=1, max_batch_tokens=600)
    assert [future.result(60).ndim for future in engine.submit([image_request(bundle, 0), image_request(bundle, 1)])] == [3, 3]
    assert engine.drain(10)


def test_waiting_images_are_shared_among_workers(bundle: Bundle) -> None:
    engine = Engine(bundle, max_queue=64, max_batch_tokens=6000, num_workers=2)
    futures = engine.submit([replace(image_request(bundle, number), num_steps=200) for number in range(7)])
    while engine.waiting:
        time.sleep(0.001)
    assert sorted(len(worker.running) for worker in engine.workers) == [3, 4]
    for future in futures:
        future.cancel()
    assert engine.drain(30)
