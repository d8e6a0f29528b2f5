"""The pair of models and the batch that most tests of this folder start from."""

from __future__ import annotations

import pytest
from diffusers import ErnieImageTransformer2DModel
from dit_cases import TINY, Case, build_case, build_pair

from imagewright.models.dit import ErnieImageDiT


@pytest.fixture
def pair() -> tuple[ErnieImageDiT, ErnieImageTransformer2DModel]:
    return build_pair(TINY)


@pytest.fixture
def mixed_case() -> Case:
    """H != W, one-token prompts, unequal prompts within a size, sizes interleaved."""
    return build_case(TINY, [(3, 5), (4, 4), (3, 5), (5, 3), (3, 5), (1, 1)], [7, 1, 2, 9, 7, 3])
