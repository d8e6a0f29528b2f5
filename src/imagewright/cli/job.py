"""`imagewright job NAME`: runs one job by hand, exactly as its container does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from imagewright.cli.config import Overrides, Recipe
from imagewright.config import load_recipe
from imagewright.errors import InputError, Problem
from imagewright.jobs.frame import run_job
from imagewright.jobs.ranks import is_follower
from imagewright.storage.records import Record, read_record


def run_one_job(
    name: Annotated[str, typer.Argument(help="Job, for example pretrain-dit.")],
    recipe: Recipe = "debug",
    overrides: Overrides = None,
    inputs: Annotated[list[str] | None, typer.Option("--input", help="NAME=RECORD.json of an earlier job; repeatable.")] = None,
    output: Annotated[Path, typer.Option("--output", help="Where to write this job's record.")] = Path("record.json"),
) -> None:
    """Run one job outside any pipeline; the store, registry and tracking server come from the environment."""
    result = run_job(name, load_recipe(recipe, overrides or []), read_inputs(inputs or []), output)
    if is_follower():
        return
    console = Console(stderr=True)
    state = "found an earlier result" if result.cached else f"finished in {result.record.wall_seconds:.1f} s"
    console.print(f"{name}: {state}; record in {output}", highlight=False)


def read_inputs(inputs: list[str]) -> dict[str, Record]:
    """Parses `name=record.json` pairs; every mistake is reported at once."""
    problems: list[Problem] = []
    records: dict[str, Record] = {}
    for item in inputs:
        name, separator, path = item.partition("=")
        if not separator or not name or not path:
            problems.append(Problem("--input", "must look like name=record.json", item, "for example --input latents=latents.json"))
        elif name in records:
            problems.append(Problem(f"--input {name}", "is given twice", path, "keep one"))
        else:
            try:
                records[name] = read_record(Path(path))
            except InputError as error:
                problems.extend(error.problems)
    if problems:
        raise InputError(problems)
    return records
