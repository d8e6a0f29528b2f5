"""Noise-level settings that contradict themselves are refused."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from imagewright.config.timesteps import TimestepConfig


def test_an_empty_token_range_is_refused() -> None:
    with pytest.raises(ValidationError, match="must be below max_tokens"):
        TimestepConfig(min_tokens=256, max_tokens=256)
    assert TimestepConfig(min_tokens=256, max_tokens=257).max_tokens == 257
