"""`imagewright promote | rollback | lineage`: who is champion, why, and where it comes from."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from imagewright.config import load_recipe
from imagewright.config.gate import GateConfig
from imagewright.errors import InputError, Problem
from imagewright.storage import store_from_environment

if TYPE_CHECKING:
    from imagewright.tracking.models import ModelRegistry
    from imagewright.tracking.promotion import Decision

EXIT_REFUSED = 1

ModelReference = Annotated[str, typer.Argument(metavar="MODEL@VERSION", help="For example turbo@7 or turbo@challenger.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Decide and print, change nothing.")]
Reason = Annotated[str, typer.Option(help="Kept in the promotion log.")]


def promote(
    reference: ModelReference,
    gate: Annotated[str, typer.Option(help="YAML file of gate rules; without it, the `gate` section of --recipe.")] = "",
    recipe: Annotated[str, typer.Option(help="Packaged recipe or path whose `gate` section applies.")] = "debug",
    approved_by: Annotated[str, typer.Option(help="Name of the person who approves.")] = "",
    reason: Reason = "",
    dry_run: DryRun = False,
    repair: Annotated[bool, typer.Option("--repair", help="Only point the champion alias at what the promotion log says.")] = False,
) -> None:
    """Judge a version and, when it passes, make it champion. Exits with 1 and the reasons when it is refused."""
    from imagewright.launch.rollout import open_rollout
    from imagewright.tracking.models import parse_reference
    from imagewright.tracking.promotion import Promoter

    model, version = parse_reference(reference)
    registry = registry_from_environment()
    config = load_recipe(recipe)
    promoter, console = Promoter(store_from_environment(), registry, open_rollout(config.rollout)), Console()
    if repair:
        before, now = promoter.repair(model)
        said = "the log is empty" if now is None else f"{model}@{now} is champion"
        console.print(f"{said}; the alias {'was right' if before == now else f'pointed at {before}'}", markup=False, highlight=False)
        return
    rules = load_recipe(gate, model=GateConfig) if gate else config.gate
    decision = promoter.promote(registry.get(model, version), rules, dry_run=dry_run, approved_by=approved_by, reason=reason)
    print_decision(console, decision, dry_run)
    if not decision.passed:
        raise typer.Exit(EXIT_REFUSED)


def rollback(
    model: Annotated[str, typer.Argument(help="Lineage name, for example turbo.")],
    to: Annotated[int, typer.Option(help="Version to go back to; 0 takes the champion before this one.")] = 0,
    reason: Reason = "",
    dry_run: DryRun = False,
) -> None:
    """Make an earlier champion champion again."""
    from imagewright.tracking.promotion import Promoter

    entry = Promoter(store_from_environment(), registry_from_environment()).rollback(model, to, dry_run=dry_run, reason=reason)
    said = "would be" if dry_run else "is"
    Console().print(f"{model}@{entry.version} {said} champion again, after {model}@{entry.against_version}", markup=False, highlight=False)


def lineage(
    reference: Annotated[str, typer.Argument(metavar="[MODEL@VERSION]", help="For example turbo@champion.")] = "",
    sample: Annotated[str, typer.Option(help="Sample key: which datasets hold it, which models saw it.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a model was made from, or where a sample went."""
    from dataclasses import asdict

    from imagewright.tracking.lineage import Lineage
    from imagewright.tracking.models import parse_reference

    if bool(reference) == bool(sample):
        raise InputError(Problem("lineage", "needs a model or a sample", None, "imagewright lineage turbo@7, or --sample KEY"))
    registry, console = registry_from_environment(), Console()
    found = Lineage(store_from_environment(), registry)
    if reference:
        node = found.of_model(registry.get(*parse_reference(reference)))
        text = json.dumps(asdict(node), indent=2) if as_json else "\n".join(node.lines())
    else:
        use = found.of_sample(sample)
        datasets = {record.revision or record.job: record.digest for record in use.datasets}
        held = [f"dataset {name}  {digest[:12]}" for name, digest in datasets.items()]
        seen = [f"model {name} saw it: {how}" for name, how in use.models.items()]
        text = json.dumps({"datasets": datasets, "models": use.models}, indent=2) if as_json else "\n".join([*held, *seen])
    console.print(text or f"no dataset holds {sample}", markup=False, highlight=False, soft_wrap=True)


def registry_from_environment() -> ModelRegistry:
    """The registry that MLFLOW_TRACKING_URI names. Raises InputError when it is not set."""
    from imagewright.tracking.models import ModelRegistry

    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        raise InputError(Problem("MLFLOW_TRACKING_URI", "is not set", None, "run `imagewright up`, or name a server"))
    # A person waits: MLflow's own default retries a dead server for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    return ModelRegistry(uri)


def print_decision(console: Console, decision: Decision, dry_run: bool) -> None:
    """One line a verdict, then what happened."""
    for verdict in decision.verdicts:
        console.print("[green]pass[/]  " if verdict.passed else "[bold red]fail[/]  ", end="")
        console.print(f"{verdict.rule}: {verdict.reason}", markup=False, highlight=False, soft_wrap=True)
    before = f"after {decision.champion.model}@{decision.champion.version}" if decision.champion else "the first"
    if decision.already_champion:
        said = "is champion already"
    elif not decision.passed:
        said = "is refused"
    else:
        said = f"{'would be' if dry_run else 'is now'} champion, {before}"
    console.print(f"{decision.candidate} {said}", markup=False, highlight=False)
