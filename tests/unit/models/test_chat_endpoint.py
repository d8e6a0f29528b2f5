"""A chat endpoint is asked once; whatever it does instead of answering has one of four reasons and never crashes the caller."""

from __future__ import annotations

import pytest
from fixtures.chat_server import chat_server, said

from imagewright.models.chat_endpoint import ChatAnswer, NoAnswerError, ask, image_message, read_answer

BODY = {"model": "m", "messages": []}


def test_the_answer_is_the_first_choice_without_space_around_it() -> None:
    with chat_server(said("  a red star\n")) as (url, bodies):
        assert ask(url, BODY, 30) == ChatAnswer("a red star")
    assert bodies == [BODY]


def test_an_answer_cut_at_the_bound_says_so() -> None:
    assert not read_answer(said("a red", finish="length")).is_whole


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<html>502</html>", "not_json"),
        (b"", "not_json"),
        (b"[" * 200_000, "not_json"),
        (b'{"a":' * 200_000, "no_answer"),
        (b'{"error": "no such model"}', "no_answer"),
        (b'{"choices": []}', "no_answer"),
        (said(None), "no_answer"),
        (said("   "), "no_answer"),
    ],
)
def test_anything_else_is_no_answer_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(NoAnswerError, match=reason):
        read_answer(data)


def test_a_silent_endpoint_is_a_timeout() -> None:
    with chat_server(None) as (url, _), pytest.raises(NoAnswerError, match="timeout"):
        ask(url, BODY, 0.05)


def test_an_endpoint_nobody_listens_at_is_unreachable() -> None:
    with pytest.raises(NoAnswerError, match="unreachable"):
        ask("http://127.0.0.1:9/v1", BODY, 30)


def test_an_answer_shorter_than_announced_is_no_answer() -> None:
    with chat_server(b'{"choices": [', declared_bytes=999) as (url, _), pytest.raises(NoAnswerError):
        ask(url, BODY, 30)


def test_a_key_that_was_read_from_a_file_with_its_newline_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret\n")
    with chat_server(said("x")) as (url, _):
        assert ask(url, BODY, 30).text == "x"


def test_an_image_travels_inside_the_message() -> None:
    message = image_message("What is this?", b"\x89PNG")
    assert message["content"][0] == {"type": "text", "text": "What is this?"}
    assert message["content"][1]["image_url"]["url"] == "data:image/png;base64,iVBORw=="
