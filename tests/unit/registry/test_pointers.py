"""The files of a registry commit, against what DVC itself writes and reads."""

from __future__ import annotations

import configparser

import pytest
import yaml

from imagewright.registry.names import RegistryError
from imagewright.registry.pointers import describe, dvc_remote, ignore_lines, parse_dataset_record, pointer_text, record_text, remote_config
from imagewright.storage import TreeEntry

# `dvc add ds` of DVC 3.67.1 on a folder with these two files wrote this pointer.
FILES = [
    TreeEntry(path="sub/é.txt", size_bytes=2, sha256="b" * 64, md5="3b5d5c3712955042212316173ccf37be"),
    TreeEntry(path="a.txt", size_bytes=2, sha256="a" * 64, md5="60b725f10c9c85c70d97880dfe8191b3"),
]
POINTER = "outs:\n- md5: c2b5ad22437d2778cd424acc8f9d92f9.dir\n  size: 4\n  nfiles: 2\n  hash: md5\n  path: ds\n"


def test_the_pointer_is_the_one_dvc_add_writes() -> None:
    text = pointer_text(describe("ds", 3, "c" * 64, FILES))
    assert text == POINTER
    assert yaml.safe_load(text)["outs"][0]["nfiles"] == 2


def test_the_record_is_read_back_whole() -> None:
    record = describe("ds", 3, "c" * 64, FILES)
    text = record_text(record)
    assert parse_dataset_record(text.encode(), "ds.json") == record
    assert [file.path for file in record.files] == ["a.txt", "sub/é.txt"]
    with pytest.raises(RegistryError, match=r"registry\.record: must be a dataset record"):
        parse_dataset_record(text.replace('"num_files": 2', '"num_files": "two"').encode(), "ds.json")


@pytest.mark.parametrize(
    ("store", "remote"),
    [
        ("file:///data/store", "/data/store/dvc"),
        ("s3://bucket/prefix", "s3://bucket/prefix/dvc"),
        ("s3://b/ at http://127.0.0.1:8333", "s3://b/dvc"),
    ],
)
def test_the_remote_lies_in_the_store(store: str, remote: str) -> None:
    assert dvc_remote(store) == remote


def test_a_new_config_names_the_remote_and_no_secret() -> None:
    parsed = configparser.ConfigParser()
    parsed.read_string(remote_config("s3://bucket/prefix/dvc"))
    assert dict(parsed["core"]) == {"remote": "store", "analytics": "false"}
    assert dict(parsed["'remote \"store\"'"]) == {"url": "s3://bucket/prefix/dvc"}


def test_a_moved_store_changes_the_address_and_nothing_else() -> None:
    own = remote_config("/old/dvc") + "    jobs = 4\n['remote \"mine\"']\n    url = /mine\n"
    moved = remote_config("/new/dvc", own)
    assert moved == own.replace("/old/dvc", "/new/dvc")
    assert remote_config("/new/dvc", moved) == moved


def test_a_chosen_default_remote_is_kept() -> None:
    own = "[core]\n    remote = mine\n['remote \"mine\"']\n    url = /mine\n"
    assert remote_config("/data/dvc", own) == own + "['remote \"store\"']\n    url = /data/dvc\n"


def test_each_payload_is_ignored_once() -> None:
    first = ignore_lines("*.swp", "raw")
    assert first == "*.swp\n/raw\n"
    assert ignore_lines(first, "raw") == first
    assert ignore_lines("/raw-2\n", "raw") == "/raw-2\n/raw\n"
