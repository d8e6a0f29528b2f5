"""Our signature is the minio SDK's, header for header."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import SplitResult

import pytest
from minio.credentials.credentials import Credentials
from minio.signer import sign_v4_s3

from imagewright.storage.aws_signature import EMPTY_SHA256, signed_headers


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/bucket/key", {}),
        ("PUT", "/bucket/a%20b/%E5%9B%BE", {"If-None-Match": "*", "Content-MD5": "abc=="}),
        ("PUT", "/bucket/key", {"If-Match": '"0123"', "x-amz-security-token": "token  with   spaces"}),
        ("HEAD", "/bucket/key", {"Range": "bytes=0-5"}),
    ],
)
def test_the_signature_is_the_one_the_sdk_computes(method: str, path: str, headers: dict[str, str]) -> None:
    now = datetime(2026, 11, 23, 23, 59, 59, tzinfo=UTC)
    ours = signed_headers(
        method, path, {"Host": "h:1", **headers}, body_sha256=EMPTY_SHA256, access_key="key", secret_key="secret", region="r", now=now
    )
    theirs = sign_v4_s3(
        method=method,
        url=SplitResult("http", "h:1", path, "", ""),
        region="r",
        headers={"Host": "h:1", **headers, "x-amz-date": "20261123T235959Z", "x-amz-content-sha256": EMPTY_SHA256},
        credentials=Credentials("key", "secret"),
        content_sha256=EMPTY_SHA256,
        date=now,
    )
    assert ours["Authorization"] == theirs["Authorization"]
