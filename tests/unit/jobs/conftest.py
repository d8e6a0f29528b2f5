"""Real jobs in a temporary folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.orchard import Orchard, planted


@pytest.fixture
def orchard(tmp_path: Path) -> Iterator[Orchard]:
    with planted(tmp_path) as grown:
        yield grown
