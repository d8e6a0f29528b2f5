"""`imagewright data`: the data registry from a terminal - log, resolve, diff, checkout, commit, remove."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from imagewright.cli.data_funnel import show_funnel

if TYPE_CHECKING:
    from imagewright.registry import DataRegistry
    from imagewright.registry.difference import Difference, RowChanges
    from imagewright.registry.distributions import CategoryShift, NumberShift

app = typer.Typer(help="Datasets of the data registry: what there is, what changed, bring it here, commit it.", no_args_is_help=True)

app.command("funnel")(show_funnel)

RegistryUrl = Annotated[
    str, typer.Option("--registry", envvar="IMAGEWRIGHT_REGISTRY_URL", help="Git URL or path; default: beside the local store.")
]
StoreUrl = Annotated[str, typer.Option("--store", envvar="IMAGEWRIGHT_STORE_URL", help="file:///folder or s3://bucket/prefix.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
RevisionName = Annotated[str, typer.Argument(help="name, name@latest or name@v3.", metavar="REVISION")]

MAX_FILES_SHOWN = 20


def open_from(registry: str, store: str) -> DataRegistry:
    """The registry that the options and the environment name."""
    import os

    from imagewright.registry import open_registry
    from imagewright.storage import open_store, store_from_environment

    return open_registry(registry or None, open_store(store) if store else store_from_environment(os.environ))


@app.command("log")
def show_log(
    name: Annotated[str, typer.Argument(help="Dataset; without one, the latest revision of each.")] = "",
    registry: RegistryUrl = "",
    store: StoreUrl = "",
    as_json: AsJson = False,
) -> None:
    """List the revisions of a dataset, newest first."""
    opened = open_from(registry, store)
    revisions = opened.log(name) if name else list({revision.name: revision for revision in opened.revisions()}.values())
    if as_json:
        typer.echo(json.dumps([{"revision": str(item), **dataclasses.asdict(item)} for item in revisions], indent=2, ensure_ascii=False))
        return
    table = Table("revision", "committed (UTC)", "author", "files", "bytes", "digest", "message", box=None, header_style="bold")
    for item in revisions:
        subject = escape(item.message.splitlines()[0])
        table.add_row(
            str(item), item.committed_at, escape(item.author), f"{item.num_files:,}", f"{item.size_bytes:,}", item.digest[:12], subject
        )
    Console().print(table)


@app.command("resolve")
def show_revision(revision: RevisionName, registry: RegistryUrl = "", store: StoreUrl = "", as_json: AsJson = False) -> None:
    """Print the payload digest behind a revision."""
    found = open_from(registry, store).resolve(revision)
    if as_json:
        typer.echo(json.dumps({"revision": str(found), **dataclasses.asdict(found)}, indent=2, ensure_ascii=False))
    else:
        typer.echo(f"{found} {found.digest} commit {found.commit}")


@app.command("checkout")
def check_out(
    revision: RevisionName,
    folder: Annotated[Path, typer.Argument(help="New or empty folder.")],
    registry: RegistryUrl = "",
    store: StoreUrl = "",
) -> None:
    """Download a revision into a folder, every file verified."""
    found = open_from(registry, store).checkout(revision, folder)
    typer.echo(f"{found}: {found.num_files:,} files, {found.size_bytes:,} bytes in {folder}")


@app.command("commit")
def commit(
    name: Annotated[str, typer.Argument(help="Dataset, as in curated-256.")],
    payload: Annotated[str, typer.Argument(help="Folder, file, or the digest of a payload in the store.")],
    message: Annotated[str, typer.Option("--message", "-m", help="What changed and why.")],
    registry: RegistryUrl = "",
    store: StoreUrl = "",
) -> None:
    """Publish a folder or a stored payload as the next revision of a dataset."""
    typer.echo(open_from(registry, store).commit(name, payload, message))


@app.command("remove")
def remove(
    name: Annotated[str, typer.Argument(help="Dataset with a manifest.")],
    keys: Annotated[list[str], typer.Argument(help="Sample keys to remove.")],
    message: Annotated[str, typer.Option("--message", "-m", help="Why they must go.")],
    registry: RegistryUrl = "",
    store: StoreUrl = "",
) -> None:
    """Publish the latest revision without some samples, in manifests and shards (takedown)."""
    typer.echo(open_from(registry, store).remove_samples(name, keys, message))


@app.command("diff")
def show_difference(
    before: RevisionName, after: RevisionName, registry: RegistryUrl = "", store: StoreUrl = "", as_json: AsJson = False
) -> None:
    """Show rows added, removed and changed, and how the distributions moved."""
    difference = open_from(registry, store).diff(before, after)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(difference), indent=2, ensure_ascii=False))
        return
    console = Console()
    console.print(f"{difference.before} -> {difference.after}" + (": the same payload" if difference.is_empty else ""))
    if difference.rows:
        print_rows(console, difference.rows)
        print_categories(console, difference.categories)
        print_numbers(console, difference.numbers)
    print_files(console, difference)


def print_rows(console: Console, rows: RowChanges) -> None:
    """Row counts and the columns that changed."""
    console.print(
        f"rows {rows.num_before:,} -> {rows.num_after:,}: {rows.num_added:,} added, {rows.num_removed:,} removed, "
        f"{rows.num_changed:,} changed, {rows.num_moved:,} only moved between shards"
    )
    for title, names in (("new columns", rows.new_columns), ("lost columns", rows.lost_columns)):
        if names:
            console.print(f"{title}: {', '.join(names)}", markup=False)
    if rows.changed_columns:
        console.print("changed columns: " + ", ".join(f"{name} ({count:,})" for name, count in rows.changed_columns.items()), markup=False)
    for title, keys in (("added", rows.examples_added), ("removed", rows.examples_removed), ("changed", rows.examples_changed)):
        if keys:
            console.print(f"{title}, first keys: {', '.join(keys)}", markup=False, soft_wrap=True)


def print_categories(console: Console, shifts: tuple[CategoryShift, ...]) -> None:
    """One line per column of words and its largest moves of share."""
    table = Table("column", "JS divergence (bits)", "values", "largest moves of share", box=None, header_style="bold")
    for shift in shifts:
        moves = []
        for value, before, after in shift.values[:4]:
            shares = before / max(shift.total_before, 1), after / max(shift.total_after, 1)
            if shares[0] != shares[1]:
                moves.append(f"{value or '(empty)'} {shares[0]:.1%} -> {shares[1]:.1%}")
        table.add_row(shift.column, f"{shift.divergence:.4f}", str(shift.num_values), escape(", ".join(moves)) or "none")
    console.print(table)


def print_numbers(console: Console, shifts: tuple[NumberShift, ...]) -> None:
    """One line per column of numbers."""
    table = Table("column", "PSI", "mean", "median", "5 % quantile", "95 % quantile", box=None, header_style="bold")
    for shift in shifts:
        old, new = shift.quantiles_before, shift.quantiles_after
        pairs = ((shift.mean_before, shift.mean_after), (old[2], new[2]), (old[0], new[0]), (old[-1], new[-1]))
        table.add_row(escape(shift.column), f"{shift.stability_index:.4f}", *(f"{before:.4g} -> {after:.4g}" for before, after in pairs))
    if shifts:
        console.print(table)


def print_files(console: Console, difference: Difference) -> None:
    """File counts; names too when there is no manifest to speak for them."""
    files = difference.files
    console.print(f"files: {len(files.added)} added, {len(files.removed)} removed, {len(files.changed)} changed, {files.num_same} the same")
    if difference.rows is None:
        for sign, paths in (("+", files.added), ("-", files.removed), ("~", files.changed)):
            for path in paths[:MAX_FILES_SHOWN]:
                console.print(f"  {sign} {path}", markup=False, highlight=False)
            if len(paths) > MAX_FILES_SHOWN:
                console.print(f"  {sign} {len(paths) - MAX_FILES_SHOWN} more")
