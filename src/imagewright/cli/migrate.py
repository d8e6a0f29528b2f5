"""`imagewright store migrate`: move a store to another bucket, service or folder, and close the old one."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from imagewright.errors import Problem
from imagewright.storage import StoreError
from imagewright.storage.address import STORE_URL_VARIABLE, open_store
from imagewright.storage.holes import GROUPS
from imagewright.storage.migration import Migration, MigrationReport, Plan
from imagewright.storage.transfer import progress_bar

TARGET_PREFIX = "IMAGEWRIGHT_TARGET_"
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def migrate(
    to: Annotated[str, typer.Option("--to", help="New store: file:///folder or s3://bucket/prefix; empty, or from an unfinished try.")],
    to_endpoint: Annotated[str, typer.Option(help="Address of the new S3 service, as http(s)://host[:port]; default: the same.")] = "",
    source: Annotated[str, typer.Option("--from", envvar=STORE_URL_VARIABLE, help="Store to move.", show_default=False)] = "",
    scratch: Annotated[Path | None, typer.Option(help="Folder with room for four of the largest files; default: TMPDIR.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check both stores and count; write nothing.")] = False,
    switch: Annotated[bool, typer.Option("--switch", help="Afterwards close the old store and copy what was written meanwhile.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Open the old store again.")] = False,
) -> None:
    """Copy a store, read every copy back, compare digests, and with --switch close the old store.

    Credentials of the new service are IMAGEWRIGHT_TARGET_AWS_ACCESS_KEY_ID, IMAGEWRIGHT_TARGET_AWS_SECRET_ACCESS_KEY,
    IMAGEWRIGHT_TARGET_AWS_SESSION_TOKEN and IMAGEWRIGHT_TARGET_AWS_REGION; without them those of the old one are used.
    A killed migration is continued by the same command.
    """
    if dry_run + switch + cancel > 1:
        raise StoreError(Problem("store.migrate", "--dry-run, --switch and --cancel exclude one another", None, "choose one"))
    if not source:
        raise StoreError(Problem(STORE_URL_VARIABLE, "must be set", None, "or give --from"))
    if scratch is not None and not scratch.is_dir():
        raise StoreError(Problem("--scratch", "must be a folder", str(scratch), "create it"))
    console = Console()
    migration = Migration(open_store(source), open_store(to, target_environment(os.environ, to_endpoint)), scratch)
    if cancel:
        migration.cancel()
        console.print(f"{migration.source.url} is open again", soft_wrap=True, highlight=False)
        return
    plan = migration.plan()
    print_plan(console, plan)
    if dry_run:
        return
    total = sum(info.size_bytes for group in GROUPS for info in plan.groups[group])
    with progress_bar(console, "copying", total) as advance:
        report = migration.copy(plan, advance if console.is_terminal else TenthsPrinter(console, total))
    print_report(console, report, f"copied and verified in {migration.target.url}")
    if not switch:
        console.print("the old store is still the one in use; add --switch to move to the new one", highlight=False)
        return
    with console.status("closing the old store and copying what was written meanwhile"):
        report = migration.switch()
    print_report(console, report, "meanwhile")
    console.print(f"{migration.source.url} is closed to writers; the store is {migration.target.url}", soft_wrap=True, highlight=False)


def target_environment(environment: Mapping[str, str], endpoint: str) -> dict[str, str]:
    """The variables by which the target is opened: those of the source, but for what is given for the target."""
    found = {name: value for name, value in environment.items() if name.startswith("AWS_")}
    given = {name.removeprefix(TARGET_PREFIX): value for name, value in environment.items() if name.startswith(f"{TARGET_PREFIX}AWS_")}
    if given.keys() & set(CREDENTIALS):
        found = {name: value for name, value in found.items() if name not in CREDENTIALS}
    if endpoint:
        found = {name: value for name, value in found.items() if name not in ENDPOINTS} | {"AWS_ENDPOINT_URL": endpoint}
    return found | given


class TenthsPrinter:
    """Progress where no terminal is, as in a pod's log: a line for every tenth of the bytes."""

    def __init__(self, console: Console, total_bytes: int) -> None:
        self._console, self._total, self._done, self._lock = console, total_bytes, 0, threading.Lock()

    def __call__(self, num_bytes: int) -> None:
        """Counts bytes that are copied or were found."""
        with self._lock:
            before, self._done = self._done, self._done + num_bytes
            if self._total and 10 * before // self._total < 10 * self._done // self._total:
                self._console.print(f"{100 * self._done // self._total} % of {self._total:,} bytes", highlight=False)


def print_plan(console: Console, plan: Plan) -> None:
    """What there is and what is still to be copied, by group."""
    table = Table("what", "objects", "bytes", "to copy", "bytes", title="migration")
    for group in GROUPS:
        missing = plan.missing(group)
        sizes = [sum(info.size_bytes for info in infos) for infos in (plan.groups[group], missing)]
        table.add_row(group, f"{len(plan.groups[group]):,}", f"{sizes[0]:,}", f"{len(missing):,}", f"{sizes[1]:,}")
    console.print(table)


def print_report(console: Console, report: MigrationReport, title: str) -> None:
    """What was copied, and what the target had already, by group."""
    table = Table("what", "copied", "bytes", "there already", "bytes", title=title)
    for group, counts in report.counts.items():
        row = (counts.num_copied, counts.copied_bytes, counts.num_present, counts.present_bytes)
        table.add_row(group, *(f"{value:,}" for value in row))
    console.print(table)
