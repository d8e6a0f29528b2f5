"""What an S3 server's refusal means to a person and what to do about it."""

from __future__ import annotations

from imagewright.errors import Problem
from imagewright.storage.errors import StoreAccessDenied, StoreError, StoreUnavailable


def refusal(url: str, action: str, status: int, code: str) -> StoreError:
    """The error for an answer that is not a success. action: `read`, `write`, `list` or `delete`."""
    if code == "NoSuchBucket":
        fix = "create the bucket, or correct IMAGEWRIGHT_STORE_URL"
        return StoreError(Problem("store.url", "names a bucket that does not exist", url, fix))
    if status in (401, 403):
        fix = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY and their rights on the bucket"
        return StoreAccessDenied(Problem("store.credentials", f"must allow to {action} ({code})", url, fix))
    if status == 507:
        return StoreError(Problem("store.disk", f"has no room left to {action} ({code})", url, "free space, or run `imagewright store gc`"))
    if status >= 500 or status == 429:
        return StoreUnavailable(Problem("store.url", f"answers {status} ({code}) after every retry", url, "look at the server's log"))
    return StoreError(Problem("store.url", f"refuses to {action} ({status} {code})", url, "look at the server's log"))


def no_answer(url: str, reason: str) -> StoreUnavailable:
    """The error for a server that cannot be reached, or that broke off after every retry. reason: one word."""
    return StoreUnavailable(Problem("store.url", f"does not answer ({reason})", url, "check AWS_ENDPOINT_URL and that the server runs"))
