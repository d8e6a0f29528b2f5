"""One engine and one build of the images for all tests; without an engine they fail, because nobody asked to skip them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from containers.engine import TARGETS, Engine, MissingError, base_image, build_images, container_engine


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """podman or docker."""
    try:
        with container_engine(tmp_path_factory.mktemp("engine")) as found:
            yield found
    except MissingError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def images(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The engine, holding images of this checkout. IMAGEWRIGHT_TEST_IMAGES=keep takes those that were built before."""
    folder = tmp_path_factory.mktemp("build")
    if os.environ.get("IMAGEWRIGHT_TEST_IMAGES") == "keep" and all(engine.has_image(f"imagewright-{target}") for target in TARGETS):
        return engine
    started = time.monotonic()
    try:
        base = base_image(engine, folder)
    except MissingError as error:
        pytest.fail(str(error), pytrace=False)
    based = time.monotonic()
    build_images(engine, base, folder)
    print(f"base image {based - started:.0f} s, images {time.monotonic() - based:.0f} s")
    return engine
