"""Rewritten prompts keep every visible word; what loses one is thrown away and counted."""

from __future__ import annotations

from collections import Counter

import pytest

from imagewright.curation.rewriting import FORMS, PromptForm, RuleRewriter, diversify, rejection, visible_texts

CAPTIONS = {
    "en": ("a red circle left of a blue square", "A simple picture: a red circle left of a blue square on a white background."),
    "zh": ("一个红色的圆形", "一幅简单图画，白色背景上有一个红色的圆形。"),
}


@pytest.mark.parametrize("seed", range(5))
def test_every_form_in_every_language_says_the_same_thing(seed: int) -> None:
    rejected: Counter[str] = Counter()
    prompts = diversify(CAPTIONS, RuleRewriter(seed), FORMS, rejected)
    assert {(prompt.language, prompt.form) for prompt in prompts} == {(language, form) for language in CAPTIONS for form in FORMS}
    assert rejected.total() == 0
    for prompt in prompts:
        words = ("red", "circle", "blue", "square", "left") if prompt.language == "en" else ("红色", "圆形")
        assert all(word in prompt.text for word in words), prompt


def test_the_same_seed_gives_the_same_prompts() -> None:
    first, second = (diversify(CAPTIONS, RuleRewriter(3), FORMS, Counter()) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('a sign "BIG SALE" and "50% off"', ["BIG SALE", "50% off"]),
        ("写着“欢迎光临”和「你好」", ["欢迎光临", "你好"]),
        ("it's Tom's 'CAFE 24'", ["CAFE 24"]),
        ("none", []),
    ],
)
def test_quoted_text_is_found_and_apostrophes_are_not_quotes(text: str, found: list[str]) -> None:
    assert visible_texts(text) == found


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("quoted", ['"BIG SALE, today only"', "“欢迎光临”"])
def test_visible_text_survives_every_rule(form: PromptForm, quoted: str) -> None:
    caption = f"a poster that says {quoted} in red"
    text = RuleRewriter(0).rewrite(caption, caption, form, "en")
    assert rejection(text, caption) == ""
    assert quoted in text


class Answers:
    """A rewriter that answers as a failing endpoint would."""

    def __init__(self, answer: str | Exception) -> None:
        self.answer = answer

    def rewrite(self, short: str, full: str, form: PromptForm, language: str) -> str:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("<html><body>502 Bad Gateway</body></html>", "markup"),
        ("a poster", "lost_visible_text"),
        ('a "BIG SALE" \x07', "control_characters"),
        ('"BIG SALE"' + "x" * 4000, "too_long"),
        (TimeoutError("no answer"), "rewriter_TimeoutError"),
        (ValueError("not JSON"), "rewriter_ValueError"),
    ],
)
def test_a_bad_answer_is_rejected_counted_and_stops_nothing(answer: str | Exception, reason: str) -> None:
    rejected: Counter[str] = Counter()
    captions = {"en": ('a poster "BIG SALE"', 'a poster "BIG SALE"')}
    assert diversify(captions, Answers(answer), ("request",), rejected) == []
    assert rejected == {reason: 1}


@pytest.mark.parametrize("caption", ['"', "🎨" * 50, "a" * 3900, "{what} {full}", "%s"])
def test_odd_captions_are_rewritten_without_harm(caption: str) -> None:
    prompts = diversify({"en": (caption, caption)}, RuleRewriter(0), ("request", "instruction"), Counter())
    assert len(prompts) == 2
