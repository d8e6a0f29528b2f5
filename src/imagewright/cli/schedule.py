"""`imagewright schedule`: a pipeline by the clock or on every new revision of a dataset, here or as a recurring run of Kubeflow."""

from __future__ import annotations

import datetime
import os
import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from imagewright.cli.config import Overrides, Recipe
from imagewright.cli.run import Place, home_folder, job_environment
from imagewright.config import Config, load_recipe
from imagewright.errors import InputError, Problem

if TYPE_CHECKING:
    from imagewright.launch.ir import PipelineIR
    from imagewright.launch.schedule import Concurrency


def schedule(
    pipeline: Annotated[str, typer.Argument(help="Pipeline, for example data_curation.")],
    recipe: Recipe = "debug",
    overrides: Overrides = None,
    cron: Annotated[str, typer.Option(help="When, in cron syntax: minute hour day month weekday.")] = "",
    on_revision: Annotated[str, typer.Option(help="Dataset whose every new revision starts a run.")] = "",
    inputs: Annotated[
        list[str] | None, typer.Option("--input", help="As in `imagewright run`; name@latest is looked up each time.")
    ] = None,
    concurrency: Annotated[str, typer.Option(help="When the run before has not ended: queue, refuse or replace.")] = "queue",
    on: Annotated[Place, typer.Option("--on", help="local stays in the foreground; kfp makes a recurring run and returns.")] = Place.local,
    name: Annotated[str, typer.Option("--name", help="Name of the schedule.")] = "",
    poll_seconds: Annotated[float, typer.Option(min=0.1, help="Pause between two looks.")] = 5.0,
) -> None:
    """Run a pipeline again and again. Steps whose inputs did not change are found, not run."""
    from imagewright.launch.inputs import resolve_inputs
    from imagewright.launch.pipelines import compile_pipeline
    from imagewright.launch.schedule import Concurrency, CronTrigger, ProcessRun, RevisionTrigger, Scheduler, Trigger

    if bool(cron) == bool(on_revision):
        raise InputError(Problem("schedule", "takes either --cron or --on-revision", cron or None, "--cron '0 3 * * *'"))
    if concurrency not in {one.value for one in Concurrency}:
        raise InputError(Problem("--concurrency", "must be queue, refuse or replace", concurrency, "--concurrency queue"))
    policy, console, title = Concurrency(concurrency), Console(), name or f"{pipeline}-{recipe}"
    config = load_recipe(recipe, overrides or [])
    compiled = compile_pipeline(pipeline, config)
    by_clock = CronTrigger(cron, datetime.datetime.now().astimezone()) if cron else None
    if on is Place.kfp:
        if by_clock is None:
            raise InputError(Problem("--on-revision", "needs --on local: Kubeflow knows no data revisions", on_revision, "use --cron"))
        schedule_on_kubeflow(compiled, config, title, cron, policy, inputs or [], console)
        return
    os.environ.update(job_environment(console))
    resolve_inputs(compiled, inputs or [], os.environ)  # a wrong reference is refused now, not at night
    trigger: Trigger = by_clock or RevisionTrigger(lambda: newest_revision(on_revision), home_folder() / "schedules" / f"{title}.json")
    options = ["--recipe", recipe, *(f"--set={one}" for one in overrides or []), *(f"--input={one}" for one in inputs or [])]

    def say(line: str) -> None:
        console.print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {title}: {line}", highlight=False)

    scheduler = Scheduler(trigger, lambda _: ProcessRun([pipeline, *options]), policy, say)
    say(f"waiting for {cron or f'a new revision of {on_revision}'}; Ctrl-C ends this schedule")
    try:
        while True:
            scheduler.tick(datetime.datetime.now().astimezone())
            time.sleep(poll_seconds)
    except KeyboardInterrupt:
        scheduler.close()
        say("ended")


def schedule_on_kubeflow(
    compiled: PipelineIR, config: Config, title: str, cron: str, policy: Concurrency, inputs: list[str], console: Console
) -> None:
    """Makes a recurring run and says its id."""
    from imagewright.jobs.environment import git_commit
    from imagewright.launch.inputs import resolve_inputs
    from imagewright.launch.kubeflow import Kubeflow

    records = resolve_inputs(compiled, inputs, os.environ)
    recurring = Kubeflow(config.kubeflow).schedule(compiled, config, title, git_commit() or "unversioned", cron, policy, records)
    console.print(f"recurring run {recurring} on {config.kubeflow.url}", highlight=False)


def newest_revision(name: str) -> str:
    """`name@v<n>`; empty before the first one."""
    from imagewright.registry import registry_from_environment
    from imagewright.storage import store_from_environment

    registry = registry_from_environment(store_from_environment())
    found = [revision for revision in registry.revisions() if revision.name == name]
    return str(max(found, key=lambda revision: revision.version)) if found else ""
