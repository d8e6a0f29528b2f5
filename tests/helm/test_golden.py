"""Nothing generated from the charts is out of date or left over."""

from __future__ import annotations

from helm.golden import GOLDEN, generated


def test_no_render_is_left_of_a_case_that_is_gone() -> None:
    assert sorted(GOLDEN.glob("*.yaml")) == sorted(path for path, _ in generated() if path.parent == GOLDEN)
