"""Compares pipeline runs: settings, data, metrics and, where the same prompts were asked, a paired bootstrap of the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from imagewright.errors import InputError, Problem
from imagewright.evaluation.results import Results, read_results
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
class Comparison:
    """The first run against every other one; tables hold one value a run, in the order of `runs`."""

    runs: tuple[str, ...]
    settings: dict[str, tuple[Any, ...]]
    """Dotted key -> values, only where they differ."""
    data: dict[str, tuple[str, ...]]
    """Job -> payload digest or revision, only where they differ."""
    metrics: dict[str, tuple[float | None, ...]]
    paired: dict[str, PairedComparison] = field(default_factory=dict)
    """`<run> <model>` against the same model of the first run, on the prompts both were asked."""

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
    data = [{job: record.revision or record.digest[:12] for job, record in run.records.items() if record.kind == "dataset"} for run in runs]
    metrics = [{f"{job}: {name}": value for job, record in run.records.items() for name, value in record.metrics.items()} for run in runs]
    return Comparison(
        runs=tuple(run.name for run in runs),
        settings=differing(settings),
        data=differing(data),
        metrics={name: tuple(table.get(name) for table in metrics) for name in sorted({name for table in metrics for name in table})},
        paired=paired_scores(runs),
    )


def paired_scores(runs: Sequence[RunView]) -> dict[str, PairedComparison]:
    """Every model of the later runs against the same stage of the first run, where they share prompts."""
    first = runs[0].results
    found: dict[str, PairedComparison] = {}
    for run in runs[1:]:
        for row in run.results.models if run.results else []:
            base = first.model(row.lineage, enhancer=row.enhancer) if first else None
            if base is not None and base.per_prompt.keys() & row.per_prompt.keys():
                found[f"{run.name} {row.lineage}{' enhanced' if row.enhancer else ''}"] = compare_paired(row.per_prompt, base.per_prompt)
    return found


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
