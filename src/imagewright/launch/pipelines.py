"""Finds pipelines by entry point and compiles them to the one IR that every place runs."""

from __future__ import annotations

import difflib
import tempfile
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from imagewright.config import Config
from imagewright.errors import InputError, Problem
from imagewright.launch.ir import PipelineIR, parse_ir

GROUP = "imagewright.pipelines"


def pipeline_entry_points() -> dict[str, EntryPoint]:
    """Pipeline name -> entry point, for every installed package that declares one."""
    return {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)}


def find_pipeline(name: str) -> EntryPoint:
    """Entry point of one pipeline. Raises InputError with the nearest name."""
    known = pipeline_entry_points()
    if name in known:
        return known[name]
    nearest = difflib.get_close_matches(name, known, n=1)
    fix = f"did you mean {nearest[0]!r}?" if nearest else f"pipelines: {', '.join(known) or 'none is installed; run make test once'}"
    raise InputError(Problem("pipeline", "no pipeline has this name", name, fix))


def compile_pipeline(name: str, config: Config) -> PipelineIR:
    """Compiles a pipeline with the placement of `config`."""
    from kfp import compiler

    graph = find_pipeline(name).load()(config.placement)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(graph, str(path))
        return parse_ir(path.read_text(encoding="utf-8"))
