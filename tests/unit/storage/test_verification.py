"""Verification names every file that is missing or changed, and says nothing of those that are well."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from imagewright.storage import Store
from imagewright.storage.tree import blob_key
from imagewright.storage.upload import SMALL_BYTES
from imagewright.storage.verification import stored_folders, verify_payloads


def test_intact_payloads_have_no_problems(store: Store, folder: Path) -> None:
    digest = store.put_folder(folder)
    assert stored_folders(store) == [digest]
    assert verify_payloads(store, [digest, store.put_bytes(b"alone"), store.put_folder(folder, dvc_layout=True)]) == []


@pytest.mark.parametrize("damaged", [b"ALPHA", b"a", b"", b"x" * (SMALL_BYTES + 1)])
def test_changed_and_missing_files_are_all_named(local_store: Store, folder: Path, damaged: bytes) -> None:
    digest = local_store.put_folder(folder)
    local_store.backend.write(blob_key(hashlib.sha256(b"alpha").hexdigest()), damaged)
    local_store.backend.delete(blob_key(hashlib.sha256(b"").hexdigest()))
    problems = {(problem.received, problem.rule) for problem in verify_payloads(local_store, [digest])}
    assert problems == {
        (f"{digest}/a.txt", "stored bytes differ from their digest"),
        (f"{digest}/nested/deeper/again.txt", "stored bytes differ from their digest"),
        (f"{digest}/empty", "the store does not hold it"),
    }


def test_a_large_file_that_changed_is_named(local_store: Store, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"a" * (SMALL_BYTES + 1))
    digest = local_store.put_file(tmp_path / "large")
    assert verify_payloads(local_store, [digest]) == []
    local_store.backend.write(blob_key(digest), b"b" * (SMALL_BYTES + 1))
    assert len(verify_payloads(local_store, [digest])) == 1


def test_a_payload_that_is_not_there_is_named(local_store: Store) -> None:
    [problem] = verify_payloads(local_store, ["0" * 64])
    assert problem.received == "0" * 64
