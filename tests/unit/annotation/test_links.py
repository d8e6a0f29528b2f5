"""A link opens one assignment until it expires, and nothing else does."""

from __future__ import annotations

import pytest

from imagewright.annotation.links import LinkError, open_link, sign_link
from imagewright.errors import InputError

KEY = "a-key-for-tests-only"


def test_link_opens_its_assignment_until_just_before_it_expires() -> None:
    token = sign_link(KEY, "abc", 1000)
    assert open_link(KEY, token, 999.9) == "abc"
    with pytest.raises(LinkError, match="expired"):
        open_link(KEY, token, 1000)


@pytest.mark.parametrize("bad", ["", ".", "abc", "abc.def", "é.é", "x" * 5000])
def test_forged_links_open_nothing(bad: str) -> None:
    with pytest.raises(LinkError, match="not valid"):
        open_link(KEY, bad, 0)


def test_link_of_another_server_or_a_changed_body_opens_nothing() -> None:
    token = sign_link(KEY, "abc", 1000)
    with pytest.raises(LinkError):
        open_link("another-key-of-tests", token, 0)
    body, _, signature = sign_link(KEY, "abd", 9000).partition(".")
    with pytest.raises(LinkError):
        open_link(KEY, f"{body}.{token.partition('.')[2]}", 0)
    assert signature


def test_short_keys_are_refused() -> None:
    with pytest.raises(InputError, match="at least 16"):
        sign_link("fifteen-letters", "abc", 1)
    assert sign_link("sixteen--letters", "abc", 1)
