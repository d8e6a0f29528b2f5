"""One request to an OpenAI-compatible chat endpoint, bounded in time and bytes: for captions, prompts and answers to questions."""

from __future__ import annotations

import base64
import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_ANSWER_BYTES = 1 << 20
KEY_VARIABLE = "OPENAI_API_KEY"
"""Read at every call and never stored."""


class NoAnswerError(RuntimeError):
    """Nothing to read; the message is the reason: `timeout`, `unreachable`, `not_json` or `no_answer`."""


@dataclass(frozen=True)
class ChatAnswer:
    """Text of the first choice, never empty. is_whole: False when the endpoint cut it at max_tokens."""

    text: str
    is_whole: bool = True


def ask(endpoint: str, body: Mapping[str, Any], timeout_seconds: float) -> ChatAnswer:
    """Sends one chat completion. Raises NoAnswerError.

    endpoint: base URL up to and including /v1, its scheme checked by the configuration.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip() or "none"  # keys out of files end with a newline
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    address = endpoint.rstrip("/") + "/chat/completions"
    request = urllib.request.Request(address, json.dumps(body).encode(), headers)  # noqa: S310 - scheme checked by config
    try:
        with urllib.request.urlopen(request, timeout=timeout_seconds) as response:  # noqa: S310
            return read_answer(response.read(MAX_ANSWER_BYTES))
    except TimeoutError as error:
        raise NoAnswerError("timeout") from error
    except urllib.error.URLError as error:
        raise NoAnswerError("timeout" if isinstance(error.reason, TimeoutError) else "unreachable") from error
    except (OSError, http.client.HTTPException) as error:  # cut off while it answered
        raise NoAnswerError("unreachable") from error


def read_answer(data: bytes) -> ChatAnswer:
    """The first choice of a chat completion. Raises NoAnswerError for anything that is none."""
    try:
        choice = json.loads(data)["choices"][0]
        text = choice["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise NoAnswerError("no_answer" if data.lstrip().startswith(b"{") else "not_json") from error
    if not isinstance(text, str) or not text.strip():
        raise NoAnswerError("no_answer")
    return ChatAnswer(text.strip(), is_whole=choice.get("finish_reason") != "length")


def image_message(text: str, png: bytes) -> dict[str, Any]:
    """A user's message of an instruction and an encoded image."""
    url = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return {"role": "user", "content": [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}]}
