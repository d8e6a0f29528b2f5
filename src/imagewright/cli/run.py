"""`imagewright run`, `runs`, `status`, `logs`, `cancel`, `resume`: pipelines on this machine and on Kubeflow."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from imagewright.cli.config import Overrides, Recipe
from imagewright.config import Config, load_recipe
from imagewright.errors import InputError, Problem

if TYPE_CHECKING:
    from imagewright.launch.ir import PipelineIR
    from imagewright.launch.kubeflow import Kubeflow
    from imagewright.storage.records import Record

KUBEFLOW_POLL_SECONDS = 5.0
RunName = Annotated[str, typer.Argument(help="Run id, an unambiguous beginning of it, or `latest`.")]


class Place(StrEnum):
    """Where a pipeline runs."""

    local = "local"
    docker = "docker"
    kfp = "kfp"


Where = Annotated[Place, typer.Option("--on", help="Where the run is; kfp takes the server from --recipe and --set.")]


def home_folder() -> Path:
    """Folder of the local stack, runs and caches: IMAGEWRIGHT_HOME, or .imagewright in the current folder."""
    return Path(os.environ.get("IMAGEWRIGHT_HOME", "") or ".imagewright").resolve()


def run(
    pipeline: Annotated[str, typer.Argument(help="Pipeline, for example end_to_end.")],
    recipe: Recipe = "debug",
    overrides: Overrides = None,
    on: Annotated[Place, typer.Option("--on", help="Where to run it.")] = Place.local,
    from_job: Annotated[
        str, typer.Option("--from", help="Run this job and all after it again; everything before must be done already.")
    ] = "",
    until: Annotated[str, typer.Option("--until", help="Stop after this job.")] = "",
    inputs: Annotated[
        list[str] | None, typer.Option("--input", help="NAME=name@revision, RUN/JOB, a payload digest or a record file; repeatable.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Name of the run; made from the time when left out.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the steps and stop.")] = False,
) -> None:
    """Run a pipeline and watch it. Steps that are done already are not run again."""
    from imagewright.launch import local
    from imagewright.launch.inputs import resolve_inputs
    from imagewright.launch.ir import pin_images
    from imagewright.launch.pipelines import compile_pipeline

    config = load_recipe(recipe, overrides or [])
    compiled = compile_pipeline(pipeline, config)
    if until:
        compiled = compiled.until(until)
    jobs = compiled.jobs()
    if from_job and from_job not in jobs:
        raise InputError(Problem("--from", "is not a job of this pipeline", from_job, f"jobs: {', '.join(jobs)}"))
    forced = compiled.descendants(from_job) if from_job else frozenset()
    console = Console()
    if dry_run:
        console.print("\n".join(f"{job}{' (again)' if job in forced else ''}" for job in jobs), highlight=False)
        return
    refuse_nodes(config, on)
    container = None
    if on is Place.docker:
        from imagewright.launch.containers import prepare

        container = prepare(config)
        compiled = pin_images(compiled, container.image)
    environment = {} if on is Place.kfp else job_environment(console)
    records = resolve_inputs(compiled, inputs or [], {**os.environ, **environment})
    if on is Place.kfp:
        run_on_kubeflow(compiled, config, name, console, records)
        return
    required = frozenset(jobs) - forced if from_job else frozenset()
    folder = local.create(home_folder(), compiled, config, name, forced, required, records, container)
    where = f" in containers of {container.digest}" if container else ""
    console.print(f"run {folder.run_id}: {pipeline} with recipe {config.name}, {len(jobs)} steps{where}", highlight=False, soft_wrap=True)
    finish(local.watch(folder, local.start(folder, environment), console), folder.path, console)


def refuse_nodes(config: Config, on: Place) -> None:
    """Training on several nodes needs a cluster."""
    if on is not Place.kfp and config.placement.train_job.num_nodes > 1:
        fix = "--on kfp, or --set placement.train_job.num_nodes=1"
        raise InputError(Problem("placement.train_job.num_nodes", "needs a cluster", config.placement.train_job.num_nodes, fix))


def run_on_kubeflow(compiled: PipelineIR, config: Config, name: str, console: Console, inputs: Mapping[str, Record]) -> None:
    """Submits to the configured cluster and prints every change of a task until the run ends."""
    from imagewright.jobs.environment import git_commit
    from imagewright.launch.kubeflow import Kubeflow

    kubeflow = Kubeflow(config.kubeflow)
    commit = git_commit() or "unversioned"
    run_id = kubeflow.submit(compiled, config, name or f"{compiled.name} {config.name}", commit, inputs)
    console.print(f"run {run_id} on {config.kubeflow.url}", highlight=False)
    watch_on_kubeflow(kubeflow, run_id, console)


def kubeflow_of(run_id: str, recipe: str, overrides: list[str] | None) -> Kubeflow:
    """The server a recipe names. Raises InputError for `latest`: only a machine's own runs have a latest one."""
    from imagewright.launch.kubeflow import Kubeflow

    if run_id == "latest":
        raise InputError(Problem("run_id", "must be given with --on kfp", None, "the id that `imagewright run --on kfp` printed"))
    return Kubeflow(load_recipe(recipe, overrides or []).kubeflow)


def watch_on_kubeflow(kubeflow: Kubeflow, run_id: str, console: Console) -> None:
    """Prints every change of a task until the run ends; exits with 1 when it does not succeed, KubeflowError when no node takes a step."""
    from imagewright.launch.kubeflow_pending import PendingSteps

    seen: dict[str, str] = {}
    pending = PendingSteps(kubeflow)
    tracking = ""
    try:
        while True:
            state = kubeflow.look(run_id)
            if state.tracking != tracking:
                tracking = state.tracking
                console.print(f"mlflow: {tracking}", highlight=False, soft_wrap=True)
            for task, status in state.tasks:
                if seen.get(task) != status:
                    seen[task] = status
                    console.print(f"{time.strftime('%H:%M:%S')} {task}: {status.lower()}", highlight=False)
            if state.is_finished:
                break
            pending.check(state)
            time.sleep(KUBEFLOW_POLL_SECONDS)
    except KeyboardInterrupt:
        console.print(f"run {run_id} goes on without you", highlight=False)
        return
    console.print(f"run {run_id}: {state.state.lower()} {state.error}".rstrip(), highlight=False)
    if state.state != "SUCCEEDED":
        raise typer.Exit(1)


def resume(run_id: RunName = "latest", on: Where = Place.local, recipe: Recipe = "debug", overrides: Overrides = None) -> None:
    """Continue a run that stopped: the same pipeline and parameters; finished steps never run again."""
    from imagewright.launch import local
    from imagewright.launch.runs import find_run

    console = Console()
    if on is Place.kfp:
        kubeflow = kubeflow_of(run_id, recipe, overrides)
        kubeflow.retry(run_id)
        watch_on_kubeflow(kubeflow, run_id, console)
        return
    folder = find_run(home_folder(), run_id)
    local.refuse_if_running(folder)
    if folder.facts().get("container"):
        from imagewright.launch import containers

        containers.require_image(folder)
    local.resume_facts(folder)
    console.print(f"resuming {folder.run_id}", highlight=False)
    finish(local.watch(folder, local.start(folder, job_environment(console)), console), folder.path, console)


def runs() -> None:
    """List the runs on this machine, newest first."""
    from imagewright.launch.local import summary
    from imagewright.launch.runs import list_runs

    grid = Table(box=None, pad_edge=False)
    for column in ("run", "pipeline", "recipe", "on", "state", "steps", "started", "seconds"):
        grid.add_column(column, no_wrap=True)
    for folder in list_runs(home_folder()):
        row = summary(folder)
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["started"])) if row["started"] else ""
        seconds = f"{row['seconds']:.0f}" if row["seconds"] is not None else ""
        grid.add_row(row["run"], row["pipeline"], row["recipe"], row["on"], row["state"], row["steps"], started, seconds)
    Console().print(grid)


def status(run_id: RunName = "latest") -> None:
    """Show every step of a run."""
    from imagewright.launch.local import is_alive
    from imagewright.launch.progress import table
    from imagewright.launch.runs import find_run

    folder = find_run(home_folder(), run_id)
    Console().print(table(folder, folder.facts()["jobs"], alive=is_alive(folder)))


def logs(run_id: RunName = "latest", lines: Annotated[int, typer.Option("--lines", min=1, help="Lines from the end.")] = 100) -> None:
    """Print the end of a run's log."""
    from imagewright.launch.runs import find_run

    log = find_run(home_folder(), run_id).log_path
    text = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    typer.echo("\n".join(text[-lines:]))


def cancel(run_id: RunName = "latest", on: Where = Place.local, recipe: Recipe = "debug", overrides: Overrides = None) -> None:
    """End a run; `imagewright resume` continues it."""
    from imagewright.launch.local import stop
    from imagewright.launch.runs import find_run

    if on is Place.kfp:
        kubeflow = kubeflow_of(run_id, recipe, overrides)
        kubeflow.terminate(run_id)
        Console().print(f"{run_id}: {kubeflow.look(run_id).state.lower()}", highlight=False)
        return
    folder = find_run(home_folder(), run_id)
    stop(folder)
    Console().print(f"{folder.run_id}: {folder.state()['state']}", highlight=False)


def job_environment(console: Console) -> dict[str, str]:
    """Endpoints for the jobs: the caller's environment when it names a store, else the local stack, started if need be."""
    if os.environ.get("IMAGEWRIGHT_STORE_URL"):
        return {}
    from imagewright import stack

    with console.status("starting the local stack"):
        stack.start(home_folder())
    return stack.environment(home_folder())


def finish(code: int, folder: Path, console: Console) -> None:
    """Says where the report and the log are, and exits with the runner's code."""
    report = folder / "report.html"
    if report.exists():
        console.print(f"report: {report}", highlight=False, soft_wrap=True)
    if code:
        console.print(f"log: {folder / 'log.txt'}", highlight=False, soft_wrap=True)
        raise typer.Exit(code if code > 0 else 1)
