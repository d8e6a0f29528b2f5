"""What one check found, and the redaction that keeps secrets out of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

SECRET_NAME = re.compile(r"SECRET|TOKEN|PASSWORD|ACCESS_KEY_ID", re.IGNORECASE)
USER_INFO = re.compile(r"(?<=://)[^/@\s]+@")
MIN_SECRET_CHARS = 4
MAX_DETAIL_CHARS = 300


class State(StrEnum):
    """ok: works. warning: something optional is missing. failed: something jobs need does not work. skipped: not set up here."""

    ok = "ok"
    warning = "warning"
    failed = "failed"
    skipped = "skipped"


@dataclass(frozen=True)
class Finding:
    """One line of the report. fix: what to do; empty when there is nothing to do."""

    name: str
    state: State
    detail: str
    fix: str = ""


def redact(text: str, environment: Mapping[str, str]) -> str:
    """Return the text on one line, without the values of secret variables and without user names and passwords in URLs."""
    for name, value in environment.items():
        if SECRET_NAME.search(name) and len(value) >= MIN_SECRET_CHARS:
            text = text.replace(value, "[hidden]")
    text = " ".join(USER_INFO.sub("[hidden]@", text).split())
    return text if len(text) <= MAX_DETAIL_CHARS else text[: MAX_DETAIL_CHARS - 3] + "..."
