"""A language model behind a real HTTP server rewrites captions; answers that cannot be used are rejected by reason and counted."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from fixtures.chat_server import chat_server, said
from pydantic import ValidationError

from imagewright.config.sft import RewriterConfig
from imagewright.curation.endpoint_rewriting import EndpointDownError, EndpointRewriter, in_language
from imagewright.curation.rewriting import RewriteRejected, RuleRewriter, diversify
from imagewright.curation.sft_data import rewriter_of

FULL = 'A poster that says "SALE 50%" on a red wall.'


def section(url: str, **changes: Any) -> RewriterConfig:
    return RewriterConfig.model_validate({"kind": "openai", "endpoint": url, "model": "m", **changes})


def test_the_endpoint_is_asked_for_the_form_and_language_and_its_prompt_is_kept() -> None:
    with chat_server(said(' Please draw a poster with "SALE 50%". ')) as (url, bodies):
        rejected: Counter[str] = Counter()
        found = diversify({"en": ("a poster", FULL)}, EndpointRewriter(section(url)), ("request",), rejected)
    assert [prompt.text for prompt in found] == ['Please draw a poster with "SALE 50%".']
    assert not rejected
    task = bodies[0]["messages"][1]["content"]
    assert "in English as a natural request" in task
    assert FULL in task


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"<html><body>502 Bad Gateway</body></html>", "rewriter_not_json"),
        (b'{"error": "no such model"}', "rewriter_no_answer"),
        (said("A poster with", finish="length"), "rewriter_truncated"),
        (said('一张写着 "SALE 50%" 的海报'), "rewriter_wrong_language"),
        (said("A poster about a sale."), "lost_visible_text"),
        (said('<html><body>"SALE 50%"</body></html>'), "markup"),
        (said("   "), "rewriter_no_answer"),
        (said('"SALE 50%" ' + "wall " * 1000), "too_long"),
    ],
)
def test_an_answer_that_cannot_be_used_is_counted_under_its_reason(answer: bytes, reason: str) -> None:
    with chat_server(answer) as (url, _):
        rejected: Counter[str] = Counter()
        assert diversify({"en": ("a poster", FULL)}, EndpointRewriter(section(url)), ("detailed",), rejected) == []
    assert rejected == {reason: 1}


def test_a_silent_endpoint_is_a_timeout_and_gives_up_after_the_allowed_failures() -> None:
    with chat_server(None) as (url, _):
        rewriter = EndpointRewriter(section(url, timeout_seconds=0.05, max_failures=2))
        with pytest.raises(RewriteRejected, match="timeout"):
            rewriter.rewrite("a", "a star", "request", "en")
        with pytest.raises(EndpointDownError, match="2 times in a row"):
            diversify({"en": ("a star", "a star")}, rewriter, ("request",), Counter())


def test_an_endpoint_nobody_listens_at_is_unreachable() -> None:
    with pytest.raises(RewriteRejected, match="unreachable"):
        EndpointRewriter(section("http://127.0.0.1:9")).rewrite("a", "a star", "request", "en")


@pytest.mark.parametrize(
    ("text", "language", "fits"),
    [
        ("draw a red star", "en", True),
        ("画一颗红色的星", "zh", True),
        ("draw a red star", "zh", False),
        ("画一颗红色的星", "en", False),
        ('a sign that says "欢迎光临"', "en", True),
        ("🌟🌟", "en", False),
    ],
)
def test_the_language_is_read_from_the_words_outside_quotes(text: str, language: str, fits: bool) -> None:
    assert in_language(text, language) is fits


def test_rules_are_the_default_and_an_endpoint_without_a_model_is_refused() -> None:
    assert isinstance(rewriter_of(RewriterConfig(), 0), RuleRewriter)
    with pytest.raises(ValidationError, match="needs endpoint and model"):
        RewriterConfig(kind="openai")
    with pytest.raises(ValidationError, match="no effect"):
        RewriterConfig(endpoint="http://x/v1")
