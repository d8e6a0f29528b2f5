"""`imagewright doctor`: one line for each thing that jobs need, with what to do about it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from imagewright.doctor.finding import Finding

COLOURS = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "dim"}
EXIT_FAILED = 1
CLUSTER_TRIES = 3


def doctor(
    home: Annotated[
        Path | None, typer.Option("--home", envvar="IMAGEWRIGHT_HOME", help="Folder of all local state; default: .imagewright.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the findings as JSON lines.")] = False,
    cluster: Annotated[bool, typer.Option("--cluster", help="Check the cluster that KUBECONFIG names instead; changes nothing.")] = False,
    namespace: Annotated[str, typer.Option(help="With --cluster: namespace of the charts.")] = "imagewright",
    values: Annotated[
        list[Path] | None,
        typer.Option("--values", help="With --cluster: value file of a chart, whose secrets and queues are checked."),
    ] = None,
) -> None:
    """Check this machine and the configured services; exits with code 1 when something that jobs need does not work."""
    console = Console()
    with console.status("looking around"):
        findings = cluster_findings(namespace, values or []) if cluster else machine_findings(home)
    if json_output:
        import json
        from dataclasses import asdict

        for finding in findings:
            typer.echo(json.dumps(asdict(finding), ensure_ascii=False))
    else:
        table = Table(box=None, pad_edge=False, show_header=False)
        for finding in findings:
            detail = finding.detail if finding.state == "ok" or not finding.fix else f"{finding.detail}\n-> {finding.fix}"
            table.add_row(finding.name, f"[{COLOURS[finding.state]}]{finding.state}[/]", detail.replace("[", r"\["))
        console.print(table)
    if any(finding.state == "failed" for finding in findings):
        raise typer.Exit(EXIT_FAILED)


def machine_findings(home: Path | None) -> list[Finding]:
    """This machine and the services its environment names."""
    from imagewright import doctor as examination

    return examination.examine(examination.all_checks(home, os.environ), os.environ)


def cluster_findings(namespace: str, values: list[Path]) -> list[Finding]:
    """The cluster that KUBECONFIG names. Raises ClusterError when it names none, InputError for a damaged value file."""
    from dataclasses import replace

    from imagewright.doctor.installation import Installation, read_values
    from imagewright.launch.cluster_api import connect

    read = [read_values(path) for path in values]
    return Installation(replace(connect(namespace), max_tries=CLUSTER_TRIES), read).findings()
