"""Compares pipeline runs: settings, data, metrics, scores with intervals and, on prompts asked of both, a paired bootstrap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from imagewright.errors import InputError, Problem
from imagewright.evaluation.page import name_of
from imagewright.evaluation.results import ModelResult, Results, read_results
from imagewright.evaluation.score_table import ScoreRow, score_rows
from imagewright.evaluation.statistics import PairedComparison, compare_paired
from imagewright.storage import Store
from imagewright.storage.records import Record, parse_record

EVALUATION_JOB = "evaluate-models"


@dataclass(frozen=True)
class RunView:
    """What one pipeline run left in the store."""

    name: str
    records: dict[str, Record]
    """Job name -> record."""
    results: Results | None = None
    grid_png: bytes = b""


@dataclass(frozen=True)
class RunFacts:
    """What a run was: its code, when it began to leave records, how much work it holds."""

    git_commit: str
    started: str
    steps: int
    wall_seconds: float


@dataclass(frozen=True)
class Comparison:
    """The first run against every other one; tables hold one value a run, in the order of `runs`."""

    runs: tuple[str, ...]
    facts: tuple[RunFacts, ...]
    settings: dict[str, tuple[Any, ...]]
    """Dotted key -> values, only where they differ."""
    data: dict[str, tuple[str, ...]]
    """Job -> payload digest or revision, only where they differ."""
    counts: dict[str, tuple[int | None, ...]]
    """`<job>: <count>` of the datasets, only where they differ."""
    metrics: dict[str, tuple[float | None, ...]]
    scores: dict[str, tuple[ScoreRow, ...]] = field(default_factory=dict)
    """Model -> its scores, for every model that any run evaluated."""
    paired: dict[str, PairedComparison] = field(default_factory=dict)
    """`<run> <model>` against the same model of the first run, on the prompts both were asked."""
    headline: str = ""
    """The furthest model that every run evaluated."""
    wins: tuple[tuple[float | None, ...], ...] = ()
    """Win rate of the headline model of run i over that of run j; None where they share no prompt."""

    def to_tree(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def load_run(store: Store, name: str) -> RunView:
    """Reads the records of a pipeline run and its evaluation. Raises InputError when the store knows no such run."""
    records = {}
    for path in store.list_named(f"runs/{name}/"):
        found = store.get_named(path)
        if found is not None:
            record = parse_record(found.data, path)
            records[record.job] = record
    if not records:
        raise InputError(Problem("run", "has no records in the store", name, "list runs with `imagewright runs`"))
    evaluated = records.get(EVALUATION_JOB)
    if evaluated is None or not evaluated.digest:
        return RunView(name, records)
    with TemporaryDirectory() as folder:
        target = Path(folder) / "results"
        store.get(evaluated.digest, target)
        results = read_results(target)
        return RunView(name, records, results, (target / results.grid).read_bytes() if results.grid else b"")


def compare_runs(runs: Sequence[RunView]) -> Comparison:
    """Compares two or more runs."""
    assert len(runs) > 1, "a comparison needs two runs"
    settings = [{key: value for record in run.records.values() for key, value in flat(record.config)} for run in runs]
    datasets = [[record for record in run.records.values() if record.kind == "dataset"] for run in runs]
    data = [{record.job: record.revision or record.digest[:12] for record in records} for records in datasets]
    counts = [{f"{record.job}: {name}": count for record in records for name, count in record.counts.items()} for records in datasets]
    metrics = [{f"{job}: {name}": value for job, record in run.records.items() for name, value in record.metrics.items()} for run in runs]
    models = [models_of(run) for run in runs]
    every = list(dict.fromkeys(name for table in models for name in table))
    headline = headline_model(runs)
    return Comparison(
        runs=tuple(run.name for run in runs),
        facts=tuple(facts_of(run) for run in runs),
        settings=differing(settings),
        data=differing(data),
        counts=differing(counts),
        metrics={name: tuple(table.get(name) for table in metrics) for name in sorted({name for table in metrics for name in table})},
        scores={name: tuple(score_rows([table.get(name) for table in models])) for name in every},
        paired=paired_scores(runs),
        headline=headline,
        wins=win_matrix(runs, headline),
    )


def facts_of(run: RunView) -> RunFacts:
    """Code, time and work of a run, from its records."""
    records = run.records.values()
    commits = {record.git_commit for record in records if record.git_commit}
    started = min((record.created_at for record in records if record.created_at), default="")
    return RunFacts(", ".join(sorted(commits)), started, len(run.records), sum(record.wall_seconds for record in records))


def models_of(run: RunView) -> dict[str, ModelResult]:
    """Rows of a run's evaluation by name, in the order of the stages."""
    return {name_of(row): row for row in run.results.models} if run.results else {}


def headline_model(runs: Sequence[RunView]) -> str:
    """The last model without enhancer that every run evaluated; empty when there is none."""
    tables = [models_of(run) for run in runs]
    shared = [name for name, row in tables[0].items() if not row.enhancer and all(name in table for table in tables)]
    return shared[-1] if shared else ""


def paired_scores(runs: Sequence[RunView]) -> dict[str, PairedComparison]:
    """Every model of the later runs against the same stage of the first run, where they share prompts."""
    first = models_of(runs[0])
    found: dict[str, PairedComparison] = {}
    for run in runs[1:]:
        for name, row in models_of(run).items():
            if name in first and first[name].per_prompt.keys() & row.per_prompt.keys():
                found[f"{run.name} {name}"] = compare_paired(row.per_prompt, first[name].per_prompt)
    return found


def win_matrix(runs: Sequence[RunView], model: str) -> tuple[tuple[float | None, ...], ...]:
    """Win rate of one model of each run over the same model of each other run, by prompt; empty without a shared model."""
    scores = [models_of(run)[model].per_prompt for run in runs] if model else []
    return tuple(
        tuple(compare_paired(mine, other).win_rate if mine is not other and mine.keys() & other.keys() else None for other in scores)
        for mine in scores
    )


def differing(tables: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """Keys whose values are not the same in every table; None where a table has no such key."""
    keys = sorted({key for table in tables for key in table})
    rows = {key: tuple(table.get(key) for table in tables) for key in keys}
    return {key: values for key, values in rows.items() if any(value != values[0] for value in values)}


def flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested mappings as dotted keys."""
    found: list[tuple[str, Any]] = []
    for key, value in tree.items():
        found += flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
    return found
