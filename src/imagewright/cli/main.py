"""The `imagewright` command: one module per verb, errors in one grammar, no traceback for a person's mistake."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer
from rich.console import Console

from imagewright.cli import (
    aes,
    annotate,
    backup,
    compare,
    config,
    data,
    demo,
    doctor,
    job,
    plan,
    promotion,
    run,
    schedule,
    serve,
    stack,
    store,
)
from imagewright.errors import InputError

EXIT_BAD_INPUT = 2

app = typer.Typer(name="imagewright", no_args_is_help=True, add_completion=False)


@app.callback()
def imagewright() -> None:
    """Train, align, distil, evaluate and ship text-to-image models."""


app.command("config")(config.show_config)
app.add_typer(data.app, name="data")
app.add_typer(store.app, name="store")
app.add_typer(annotate.app, name="annotate")
app.add_typer(aes.app, name="aes")
app.add_typer(backup.app, name="backup")
app.add_typer(plan.app, name="plan")
app.command("job")(job.run_one_job)
app.command("demo")(demo.demo)
app.command("compare")(compare.compare)
app.command("serve")(serve.serve)
VERBS: tuple[Callable[..., None], ...] = (
    *(run.run, run.runs, run.cancel, run.resume, schedule.schedule),
    *(stack.up, stack.down, stack.status, stack.logs, doctor.doctor),
    *(promotion.promote, promotion.rollback, promotion.lineage),
)
for verb in VERBS:
    app.command()(verb)


def main() -> None:
    """Entry point: runs the verb; a person's mistake is printed without a traceback and exits with code 2."""
    try:
        app()
    except InputError as error:
        console = Console(stderr=True)
        for problem in error.problems:
            console.print("[bold red]error[/] ", end="")
            console.print(str(problem), markup=False, highlight=False, soft_wrap=True)
        sys.exit(EXIT_BAD_INPUT)


if __name__ == "__main__":
    main()
