"""A wrong address or environment is refused with everything that is wrong, before any request and without a secret in the text."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from imagewright.storage import StoreError, open_store, store_from_environment

KEYS = {"AWS_ACCESS_KEY_ID": "AKIAKEY", "AWS_SECRET_ACCESS_KEY": "verysecret", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    "url", ["", "store", "http://host/x", "file://host/x", "file:///", "s3:///prefix", "s3://My_Bucket", "s3://ab", "s3://b:80"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(StoreError, match=r"store\.url"):
        open_store(url, KEYS)


def test_everything_missing_is_named_at_once() -> None:
    with pytest.raises(StoreError) as caught:
        open_store("s3://", {"AWS_ENDPOINT_URL": "127.0.0.1:1"})
    assert [problem.key for problem in caught.value.problems] == [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ENDPOINT_URL",
        "store.url",
    ]


@pytest.mark.parametrize("url", ["s3://user:verysecret@bucket/x", "s3://bucket"])
def test_secrets_are_in_no_message(url: str) -> None:
    environment = KEYS | {"AWS_ENDPOINT_URL": "http://user:verysecret@host"}
    with pytest.raises(StoreError) as caught:
        open_store(url, environment)
    assert "verysecret" not in str(caught.value)


def test_secrets_are_in_no_repr() -> None:
    store = open_store("s3://bucket/prefix", KEYS)
    assert "verysecret" not in repr(vars(store.backend)["_address"]) and "verysecret" not in store.url


def test_the_environment_names_the_store(tmp_path: Path) -> None:
    assert store_from_environment({"IMAGEWRIGHT_STORE_URL": f"file://{tmp_path}/a%20b"}).url == f"file://{tmp_path}/a b"
    with pytest.raises(StoreError, match="IMAGEWRIGHT_STORE_URL: must be set"):
        store_from_environment({})


def test_opening_a_store_imports_neither_the_s3_sdk_nor_a_framework_nor_the_settings_of_jobs() -> None:
    code = (
        "import sys; from imagewright.storage import open_store; open_store('s3://bucket', dict("
        "AWS_ACCESS_KEY_ID='a', AWS_SECRET_ACCESS_KEY='b', AWS_ENDPOINT_URL='http://h:1'));"
        "print([m for m in ('minio', 'torch', 'mlflow', 'kfp', 'pandas', 'boto3', 'dvc', 'imagewright.config.tree') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
