"""Findings never show a secret."""

from __future__ import annotations

from imagewright.doctor.finding import redact


def test_values_of_secret_variables_and_passwords_in_urls_are_hidden() -> None:
    environment = {"AWS_SECRET_ACCESS_KEY": "abcd1234", "MLFLOW_TRACKING_TOKEN": "tok-99", "HOME": "/home/ann"}
    text = "abcd1234 at https://ann:pw@git.example/x with tok-99 in /home/ann"
    assert redact(text, environment) == "[hidden] at https://[hidden]@git.example/x with [hidden] in /home/ann"


def test_a_long_message_becomes_one_line_of_limited_length() -> None:
    assert redact("a\n  b", {}) == "a b"
    assert len(redact("x" * 1000, {})) == 300
    assert redact("x" * 300, {}) == "x" * 300
