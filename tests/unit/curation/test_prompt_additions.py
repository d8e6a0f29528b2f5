"""A remark stands on both sides of a pair, in its words, and contradicts nothing there."""

from __future__ import annotations

import numpy as np

from imagewright.curation.prompt_additions import add_to_both, draw_addition
from imagewright.curation.prompt_constraints import broken_constraints
from imagewright.curation.rewriting import visible_texts

CAPTION = "This picture shows two green stars. The background is white and the style is flat colours."


def test_a_remark_is_kept_word_for_word_by_the_caption() -> None:
    rng = np.random.default_rng(0)
    pairs = [add_to_both("two stars.", CAPTION, draw_addition(rng, CAPTION)) for _ in range(200)]
    assert all(asked.removeprefix("two stars, ") in told for asked, told in pairs)
    assert not any(broken_constraints(asked, told) for asked, told in pairs)
    assert all(told.endswith(".") and not told.endswith("..") for _, told in pairs)
    asked = " ".join(prompt for prompt, _ in pairs)
    for sign in ("without", "“", "exactly", "夜晚"):
        assert sign in asked


def test_a_caption_with_text_gets_no_other_text_and_an_excluded_object_is_not_one_it_shows() -> None:
    rng, sign = np.random.default_rng(0), "A red sign with the words “NO PARKING”."
    remarks = [draw_addition(rng, sign) for _ in range(200)]
    assert not any(visible_texts(remark) for remark in remarks)
    assert not any("sign" in remark.split() for remark in remarks)
