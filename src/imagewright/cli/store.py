"""`imagewright store`: what lies in the store, whether it is intact, and what nobody needs any more."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from imagewright.cli.migrate import migrate
from imagewright.errors import Problem
from imagewright.storage import Store, StoreError, store_from_environment
from imagewright.storage.digests import parse_digest
from imagewright.storage.garbage import collect_garbage, named_roots
from imagewright.storage.tree import DVC_FILES
from imagewright.storage.verification import stored_folders, verify_payloads

MAX_ROOTS_BYTES = 64 << 20

app = typer.Typer(no_args_is_help=True, help="Look into the store that IMAGEWRIGHT_STORE_URL names.")
app.command("migrate")(migrate)


@app.command("ls")
def list_store(digest: Annotated[str, typer.Argument(help="Folder payload; without it, a summary of the store.")] = "") -> None:
    """List the files of a folder payload, or count what the store holds."""
    store, console = store_from_environment(), Console()
    if digest:
        for entry in store.tree(digest):
            console.print(f"{entry.size_bytes:>14,}  {entry.sha256}  {entry.path}", markup=False, highlight=False, soft_wrap=True)
        return
    table = Table("what", "objects", "bytes", title=store.url)
    for label, prefix in (("folders", "trees/"), ("files", "blobs/"), ("files in DVC's layout", f"{DVC_FILES}/"), ("names", "named/")):
        sizes = [info.size_bytes for info in store.backend.list(prefix)]
        table.add_row(label, f"{len(sizes):,}", f"{sum(sizes):,}")
    console.print(table)


@app.command("verify")
def verify(digests: Annotated[list[str] | None, typer.Argument(help="Payloads; without any, every folder in the store.")] = None) -> None:
    """Read payloads back and compare every file with its digest."""
    store = store_from_environment()
    chosen = digests or stored_folders(store)
    problems = verify_payloads(store, chosen)
    if problems:
        raise StoreError(problems)
    Console().print(f"{len(chosen)} payloads are intact")


@app.command("gc")
def collect(
    roots: Annotated[Path | None, typer.Option(help="File of digests to keep, one a line; # starts a comment.")] = None,
    keep_days: Annotated[float, typer.Option(min=0, help="Keep what action entries younger than this name.")] = 30.0,
    grace_hours: Annotated[float, typer.Option(min=0, help="Never touch objects younger than this; longer than any upload.")] = 24.0,
    delete: Annotated[bool, typer.Option("--delete", help="Delete; without it only the report is printed.")] = False,
    registry: Annotated[
        str, typer.Option(envvar="IMAGEWRIGHT_REGISTRY_URL", help="Data registry whose revisions stay; default: beside the local store.")
    ] = "",
    tracking: Annotated[str, typer.Option(envvar="MLFLOW_TRACKING_URI", help="MLflow server whose model versions stay.")] = "",
) -> None:
    """Find payloads that no root reaches, and delete them when told to.

    Roots are every revision of the data registry, every model version, promotions, recent results and --roots. A registry or server that
    is named and does not answer stops the collection.
    """
    store = store_from_environment()
    kept = named_roots(store, timedelta(days=keep_days)) | (_read_roots(roots) if roots else set())
    kept |= _registry_roots(store, registry) | _model_roots(tracking)
    report = collect_garbage(store, kept, grace=timedelta(hours=grace_hours), delete=delete)
    table = Table("what", "objects", "bytes", title=store.url)
    table.add_row("reachable", f"{report.num_live:,}", f"{report.live_bytes:,}")
    table.add_row("unreachable, in the grace period", f"{report.num_young:,}", f"{report.young_bytes:,}")
    table.add_row("garbage", f"{report.num_garbage:,}", f"{report.garbage_bytes:,}")
    table.add_row("deleted", f"{report.num_deleted:,}", f"{report.deleted_bytes:,}")
    console = Console()
    console.print(table)
    console.print(f"{report.num_roots} roots, {report.num_missing_roots} of them not in the store", highlight=False)
    if not delete and report.num_garbage:
        console.print("nothing was deleted; add --delete to do it")


def _registry_roots(store: Store, url: str) -> set[str]:
    """Digests of every dataset revision. Raises RegistryError when the registry cannot be read."""
    from imagewright.registry import DataRegistry
    from imagewright.registry.registry import default_path

    if not url and not default_path(store.url).exists():
        return set()
    return {revision.digest for revision in DataRegistry(url or default_path(store.url), store).revisions()}


def _model_roots(uri: str) -> set[str]:
    """Digests that model versions mention. Raises ModelError when the server does not answer."""
    if not uri:
        return set()
    from imagewright.tracking.models import ModelRegistry

    return ModelRegistry(uri).mentioned_payloads()


def _read_roots(path: Path) -> set[str]:
    """Digests of a roots file. Raises StoreError naming every line that is not a digest: a typo must not cost a payload."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_ROOTS_BYTES + 1)
        lines = text.decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(Problem("store.gc.roots", f"cannot be read: {error}", str(path), "give a text file of digests")) from error
    if len(text) > MAX_ROOTS_BYTES:
        raise StoreError(Problem("store.gc.roots", f"must be smaller than {MAX_ROOTS_BYTES} bytes", str(path), "split the file"))
    found, problems = set(), []
    for number, line in enumerate(lines, start=1):
        value = line.partition("#")[0].strip()
        try:
            if value:
                found.add(parse_digest(value))
        except StoreError:
            problems.append(Problem("store.gc.roots", f"line {number} must be a digest", value, "correct it, or put # before it"))
    if problems:
        raise StoreError(problems)
    return found
