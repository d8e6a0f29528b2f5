"""`imagewright up | down | status | logs`: the local S3 and MLflow servers, and the runs that use them."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from imagewright.cli import run

# imagewright.stack needs packages of the `control` extra, which worker images lack: it is imported by the verb that uses it.

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", envvar="IMAGEWRIGHT_HOME", help="Folder of all local state; default: .imagewright in the current folder."),
]
SERVERS = ("s3", "mlflow")
FOLLOW_SECONDS = 0.5
EXIT_NOT_RUNNING = 3


def up(home: HomeOption = None) -> None:
    """Start the local S3 and MLflow servers; harmless when they run already."""
    from imagewright import stack

    console = Console()
    began = time.monotonic()
    with console.status("starting the local stack"):
        running = stack.start(home, progress=lambda line: console.print(line, highlight=False))
    console.print(f"ready in {time.monotonic() - began:.1f} s", highlight=False)
    _print_servers(console, home)
    console.print(
        f"MLflow: {running.mlflow_url}   environment for other tools: imagewright status --export", highlight=False, soft_wrap=True
    )


def down(
    home: HomeOption = None,
    grace_seconds: Annotated[float, typer.Option("--grace-seconds", min=0.0, help="Wait this long before a server is killed.")] = 6.0,
) -> None:
    """Stop the local servers; their data stays."""
    from imagewright import stack

    console = Console()
    with console.status("stopping the local stack"):
        stopped = stack.stop(home, grace_seconds=grace_seconds)
    console.print(f"stopped {' and '.join(stopped)}" if stopped else "nothing was running", highlight=False)


def status(
    run_id: Annotated[str, typer.Argument(metavar="[RUN]", help="Run id or `latest`; left out: the servers and the latest run.")] = "",
    home: HomeOption = None,
    export: Annotated[bool, typer.Option("--export", help="Print the stack's environment as shell exports, secrets included.")] = False,
) -> None:
    """Show the local servers and the steps of a run; exits with code 3 when a server is not running."""
    from imagewright import stack
    from imagewright.launch.runs import list_runs

    if export:
        for name, value in stack.environment(home).items():
            typer.echo(f"export {name}={shlex.quote(value)}")
        return
    if run_id:
        run.status(run_id)
        return
    all_run = _print_servers(Console(), home)
    if stack.find_home(home) == run.home_folder() and list_runs(run.home_folder()):
        run.status("latest")
    if not all_run:
        raise typer.Exit(EXIT_NOT_RUNNING)


def logs(
    source: Annotated[str, typer.Argument(metavar="[RUN|s3|mlflow]", help="Run id, `latest`, or a server of the local stack.")] = "latest",
    home: HomeOption = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="Lines from the end.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on printing a server's log until interrupted.")] = False,
) -> None:
    """Print the end of a run's or a local server's log."""
    if source not in SERVERS:
        run.logs(source, lines)
        return
    from imagewright import stack
    from imagewright.stack.process import tail

    log = stack.Home.of(home).log(source)
    size = log.stat().st_size if log.exists() else 0
    for line in tail(log, lines):
        typer.echo(line)
    if follow:
        _follow(log, size)


def _follow(log: Path, size: int) -> None:
    while True:
        time.sleep(FOLLOW_SECONDS)
        now = log.stat().st_size if log.exists() else 0
        # A smaller file is a new one: the log was rotated by a restart.
        begin = size if now >= size else 0
        if now > begin:
            with log.open("rb") as opened:
                opened.seek(begin)
                typer.echo(opened.read(now - begin).decode("utf-8", errors="replace"), nl=False)
        size = now


def _print_servers(console: Console, home: Path | None) -> bool:
    """Print one row per server; True when all run."""
    from imagewright import stack

    colours = {"running": "green", "starting": "yellow", "stopped": "red"}
    table = Table(box=None, pad_edge=False)
    for column in ("server", "state", "address", "pid", "up for", "memory"):
        table.add_column(column, no_wrap=True)
    found = stack.status(home)
    for one in found:
        state = f"[{colours[one.state]}]{one.state}[/]"
        if one.pid is None:
            table.add_row(one.title, state, "", "", "", "")
        else:
            table.add_row(one.title, state, one.url, str(one.pid), _duration(one.uptime_seconds), f"{one.memory_bytes / 2**20:.0f} MiB")
    console.print(table)
    return all(one.state == "running" for one in found)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
