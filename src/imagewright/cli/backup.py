"""`imagewright backup save | list | restore`: files from outside the store, such as a dump of MLflow's database, kept in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from imagewright.storage import store_from_environment
from imagewright.storage.backups import list_backups, restore_backup, save_backup

app = typer.Typer(help="Keep files such as database dumps in the store.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="What it is, for example mlflow.")]


@app.command("save")
def save(
    name: Name,
    file: Annotated[Path, typer.Argument(help="File to keep.")],
    keep: Annotated[int, typer.Option("--keep", min=1, help="Forget all but this many of the newest.")] = 14,
) -> None:
    """Keep a file; the store verifies it when it is read back."""
    backup = save_backup(store_from_environment(), name, file, keep)
    Console().print(f"saved {name} at {backup.saved}, {backup.size_bytes:,} bytes, {backup.digest}", highlight=False, soft_wrap=True)


@app.command("list")
def list_saved(name: Name) -> None:
    """List the backups of one name, newest first."""
    for backup in list_backups(store_from_environment(), name):
        typer.echo(f"{backup.saved}  {backup.size_bytes:>15,} bytes  {backup.digest}")


@app.command("restore")
def restore(
    name: Name,
    destination: Annotated[Path, typer.Argument(help="File to write; it must not exist.")],
    saved: Annotated[str, typer.Option("--at", help="Time of the backup, from `list`; the newest when left out.")] = "",
) -> None:
    """Write a backup to a file, verified."""
    backup = restore_backup(store_from_environment(), name, destination, saved)
    Console().print(f"restored {name} of {backup.saved} to {destination}", highlight=False, soft_wrap=True)
