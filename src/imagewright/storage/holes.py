"""What a store lacks of what it names: files of folders, backups, entries of the promotion log. A migration asks before it starts."""

from __future__ import annotations

import re

from imagewright.errors import Problem
from imagewright.storage.backend import ObjectInfo
from imagewright.storage.backups import PREFIX as BACKUP_PREFIX
from imagewright.storage.errors import StoreError
from imagewright.storage.store import Store
from imagewright.storage.transfer import run_parallel
from imagewright.storage.tree import DVC_FILES, MAX_TREE_BYTES, blob_key, parse_tree, tree_key

MAX_SHOWN_PROBLEMS = 50
FILES, DVC_LAYOUT, OTHER, FOLDERS, NAMES = GROUPS = ("files", "files in DVC's layout", "other objects", "folders", "names")
"""In the order in which nothing visible lacks what it names."""
_PREFIXES = {"blobs/": FILES, f"{DVC_FILES}/": DVC_LAYOUT, "trees/": FOLDERS, "named/": NAMES}
_PROMOTION = re.compile(r"named/promotions/(?P<model>[^/]+)/(?P<number>\d+)\.json")
_ANY_DIGEST = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


def group_of(key: str) -> str:
    """What kind of object lies under a key."""
    return next((group for prefix, group in _PREFIXES.items() if key.startswith(prefix)), OTHER)


def find_holes(store: Store, groups: dict[str, list[ObjectInfo]]) -> list[Problem]:
    """One problem per file that a folder names and the store lacks, per folder that cannot be read, per lost backup or promotion."""
    sizes = {info.key: info.size_bytes for group in GROUPS for info in groups[group]}

    def check(info: ObjectInfo) -> list[Problem]:
        digest = info.key.removeprefix("trees/").replace("/", "")
        found = store.backend.read(info.key, MAX_TREE_BYTES)
        try:
            entries = parse_tree(found.data, digest) if found else []
        except StoreError as error:
            return list(error.problems)
        fix = "restore it, or collect the folder as garbage first"
        return [
            Problem("store.migrate.from", "misses a file of a folder", f"{digest}/{entry.path}", fix)
            for entry in entries
            if sizes.get(blob_key(entry.sha256, entry.md5)) != entry.size_bytes
        ]

    problems = [problem for found in run_parallel(check, groups[FOLDERS], store.backend.num_workers) for problem in found]
    for info in groups[NAMES]:
        if info.key.startswith(f"named/{BACKUP_PREFIX}"):
            entry = store.get_named(info.key.removeprefix("named/"))
            for digest in _ANY_DIGEST.findall(entry.data) if entry else []:
                if not {blob_key(digest.decode()), tree_key(digest.decode())} & sizes.keys():
                    problems.append(Problem("store.migrate.from", "misses a backup", info.key, "delete this name, or restore the payload"))
    return problems + _gaps(list(sizes))


def _gaps(keys: list[str]) -> list[Problem]:
    """The promotion log of a model counts from 1: a number left out is an entry that was lost."""
    logs: dict[str, set[int]] = {}
    for match in filter(None, map(_PROMOTION.fullmatch, keys)):
        logs.setdefault(match["model"], set()).add(int(match["number"]))
    return [
        Problem("store.migrate.from", "misses an entry of the promotion log", f"{model} {number}", "restore it from a backup")
        for model, numbers in sorted(logs.items())
        for number in sorted(set(range(1, max(numbers))) - numbers)
    ]


def shortened(problems: list[Problem]) -> list[Problem]:
    """The first of many problems, and how many more there are."""
    rest = len(problems) - MAX_SHOWN_PROBLEMS
    if rest <= 0:
        return problems
    return [*problems[:MAX_SHOWN_PROBLEMS], Problem("store.migrate.from", f"has {rest} more holes", None, "see `imagewright store verify`")]
