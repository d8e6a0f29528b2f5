"""From a URL and the environment to an open store: the one place that reads `IMAGEWRIGHT_STORE_URL` and `AWS_*`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from imagewright.errors import Problem
from imagewright.storage.errors import StoreError
from imagewright.storage.store import Store

if TYPE_CHECKING:
    from rich.console import Console

    from imagewright.storage.s3_requests import S3Address

STORE_URL_VARIABLE = "IMAGEWRIGHT_STORE_URL"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_FIX = "use file:///folder or s3://bucket/prefix"
# On a cluster a step's pod starts without what its ConfigMap or Secret lacks, so that this is said instead of waiting for it.
_FROM = "`imagewright up` starts a local store; on a cluster look at the object that placement.{} names, in the steps' namespace"


def store_from_environment(environment: Mapping[str, str] = os.environ, console: Console | None = None) -> Store:
    """The store that `IMAGEWRIGHT_STORE_URL` names. Raises StoreError when it is not set or not usable."""
    url = environment.get(STORE_URL_VARIABLE, "")
    if not url:
        raise StoreError(Problem(STORE_URL_VARIABLE, "must be set", None, f"{_FIX}; {_FROM.format('environment_config_map')}"))
    return open_store(url, environment, console)


def open_store(url: str, environment: Mapping[str, str] = os.environ, console: Console | None = None) -> Store:
    """Opens `file:///folder` or `s3://bucket/prefix` without a request; `Store.check` asks the place itself.

    For S3 the endpoint is AWS_ENDPOINT_URL and the credentials are AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, where there is
    one, AWS_SESSION_TOKEN; AWS_REGION defaults to us-east-1. console: draws a bar for folder transfers on a terminal.
    """
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise StoreError(Problem("store.url", "must not carry credentials", None, "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"))
    if parts.scheme == "file":
        from imagewright.storage.local_backend import LocalBackend

        if parts.netloc or not parts.path.strip("/"):
            raise StoreError(Problem("store.url", "must be file:// and an absolute folder", url, _FIX))
        return Store(LocalBackend(Path(unquote(parts.path))), console)
    if parts.scheme == "s3":
        from imagewright.storage.s3_backend import S3Backend

        return Store(S3Backend(_s3_address(url, environment)), console)
    raise StoreError(Problem("store.url", "must be a folder or an S3 bucket", url, _FIX))


def _s3_address(url: str, environment: Mapping[str, str]) -> S3Address:
    from imagewright.storage.s3_requests import S3Address

    parts = urlsplit(url)
    problems = [
        Problem(name, "must be set to use an S3 store", None, _FROM.format("credentials_secret"))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        if not environment.get(name)
    ]
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1"
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or f"https://s3.{region}.amazonaws.com"
    target = urlsplit(endpoint)
    if target.scheme not in ("http", "https") or not target.hostname or target.path.strip("/") or target.username:
        problems.append(Problem("AWS_ENDPOINT_URL", "must be http(s)://host[:port]", None if target.username else endpoint, "correct it"))
    if not _BUCKET.fullmatch(parts.netloc):
        problems.append(Problem("store.url", "must name a bucket: 3 to 63 lower-case letters, digits, dots and hyphens", url, _FIX))
    if problems:
        raise StoreError(problems)
    return S3Address(
        endpoint=endpoint,
        bucket=parts.netloc,
        prefix=unquote(parts.path).strip("/"),
        access_key=environment["AWS_ACCESS_KEY_ID"],
        secret_key=environment["AWS_SECRET_ACCESS_KEY"],
        session_token=environment.get("AWS_SESSION_TOKEN"),
        region=region,
    )
