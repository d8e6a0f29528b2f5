"""A packed configuration is what it was, and what was never packed is left alone."""

from __future__ import annotations

import base64
import gzip

import pytest

from imagewright.config import load_recipe
from imagewright.config.packed import MARK, MAX_BYTES, pack_config, unpack_config
from imagewright.errors import ConfigError


def test_a_configuration_comes_back_from_less_than_half_its_length() -> None:
    text = load_recipe("ernie_8b").model_dump_json()
    packed = pack_config(text)
    assert unpack_config(packed) == text
    assert len(packed) < len(text) / 2
    assert '"' not in packed
    assert pack_config(text) == packed


def test_text_that_is_not_packed_is_handed_on() -> None:
    assert unpack_config('{"name": "debug"}') == '{"name": "debug"}'


@pytest.mark.parametrize("text", [MARK, f"{MARK}???", f"{MARK}aGVsbG8=", pack_config("{}")[:12] + "A" * 8])
def test_damaged_text_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="cannot be unpacked"):
        unpack_config(text)


@pytest.mark.parametrize(("num_bytes", "accepted"), [(MAX_BYTES, True), (MAX_BYTES + 1, False), (100 * MAX_BYTES, False)])
def test_what_unpacks_to_too_much_is_refused(num_bytes: int, accepted: bool) -> None:
    packed = MARK + base64.b64encode(gzip.compress(b"x" * num_bytes)).decode()
    if accepted:
        assert len(unpack_config(packed)) == num_bytes
        return
    with pytest.raises(ConfigError, match="at most"):
        unpack_config(packed)
