"""Personal links: an assignment and an expiry, signed, so that no password or cookie is needed."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json

from imagewright.errors import InputError, Problem

MIN_KEY_CHARS = 16
MAX_TOKEN_CHARS = 512


class LinkError(Exception):
    """A link that opens nothing; the message is for the person who followed it."""


def check_key(key: str) -> bytes:
    """The signing key as bytes. Raises InputError when it is short enough to guess."""
    if len(key) < MIN_KEY_CHARS:
        rule = f"must have at least {MIN_KEY_CHARS} characters"
        raise InputError(Problem("annotation link key", rule, fix="set IMAGEWRIGHT_ANNOTATION_LINK_KEY to a random string"))
    return key.encode()


def sign_link(key: str, assignment: str, expires: float) -> str:
    """Token for an assignment, valid until `expires` (seconds since 1970)."""
    body = encode(json.dumps({"a": assignment, "e": int(expires)}, separators=(",", ":")).encode())
    return f"{body}.{encode(signature(key, body))}"


def open_link(key: str, token: str, now: float) -> str:
    """The assignment a token opens. Raises LinkError when it is forged, malformed or expired."""
    body, _, signed = token.partition(".")
    if len(token) > MAX_TOKEN_CHARS or not hmac.compare_digest(encode(signature(key, body)).encode(), signed.encode()):
        raise LinkError("This link is not valid. Ask whoever sent it for a new one.")
    try:
        tree = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        assignment, expires = str(tree["a"]), int(tree["e"])
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise LinkError("This link is not valid. Ask whoever sent it for a new one.") from error
    if now >= expires:
        raise LinkError("This link has expired. Ask whoever sent it for a new one; your votes are kept.")
    return assignment


def signature(key: str, body: str) -> bytes:
    """HMAC-SHA256 of the token's body."""
    return hmac.new(check_key(key), body.encode(), hashlib.sha256).digest()


def encode(data: bytes) -> str:
    """URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
