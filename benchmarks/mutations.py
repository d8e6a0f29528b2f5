"""Which steps run again after a change? Random changes of code, settings, payload bytes and image, against what really depends on them.

Every step of `end_to_end` runs through the real job frame (key, lookup, lease, publish, record) on a store in a folder; only the bodies
are tiny. What should run again is found by other means: imports by Python's own `modulefinder`, sections by the jobs' declarations, what
follows by the compiled graph. kfp's local cache is asked about the same changes of the same graph; a changed input means that a job made
other bytes elsewhere: our record names their digest, kfp's artifact file holds them.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "mutations.txt"
COPY = "IMAGEWRIGHT_MUTATED_COPY"
KINDS = ("code", "config", "input", "image")
IMAGE = "sha256:" + "a" * 64


@dataclass(frozen=True)
class Change:
    """One mutation. direct: jobs it touches themselves; follows: whether their new payloads differ, so that what reads them runs too."""

    kind: str
    what: str
    direct: frozenset[str]
    follows: bool
    config: Any
    image: str = ""
    file: Path | None = None
    payload_of: str = ""


@dataclass
class Tally:
    """Counts of one side and kind."""

    changes: int = 0
    affected: int = 0
    rerun: int = 0
    stale: int = 0
    needless: int = 0

    def add(self, expected: frozenset[str], rerun: frozenset[str]) -> None:
        self.changes += 1
        self.affected += len(expected)
        self.rerun += len(rerun)
        self.stale += len(expected - rerun)
        self.needless += len(rerun - expected)


def collect(spec: dict[str, Any], dag: dict[str, Any], given: dict[str, str], found: dict[str, dict[str, str]]) -> dict[str, str]:
    """Adds every job below `dag` (job -> input -> maker) in an order they can run in; returns the makers of the outputs."""
    from imagewright.launch.ir import component_of, job_name, ordered

    made: dict[tuple[str, str], str] = {}
    for name in ordered(dag["tasks"]):
        task = dag["tasks"][name]
        component = component_of(spec, task)
        inputs = {}
        for key, source in task.get("inputs", {}).get("artifacts", {}).items():
            produced = source.get("taskOutputArtifact")
            outer = source.get("componentInputArtifact")
            maker = made.get((produced["producerTask"], produced["outputArtifactKey"])) if produced else given.get(outer)
            if maker is not None:
                inputs[key] = maker
        if "dag" in component:
            made |= {(name, output): job for output, job in collect(spec, component["dag"], inputs, found).items()}
        else:
            found[job_name(spec, component)] = inputs
            made |= {(name, output): job_name(spec, component) for output in component.get("outputDefinitions", {}).get("artifacts", {})}
    outputs = dag.get("outputs", {}).get("artifacts", {})
    chosen = {output: source["artifactSelectors"][0] for output, source in outputs.items()}
    return {output: made[one["producerSubtask"], one["outputArtifactKey"]] for output, one in chosen.items()}


@dataclass
class Graph:
    """The jobs of `end_to_end` that have a key, what each reads, and the commands kfp would run."""

    ir: Any
    reads: dict[str, dict[str, str]]
    commands: dict[str, list[str]]
    sections: dict[str, tuple[str, ...]]

    def expected(self, change: Change) -> frozenset[str]:
        """Jobs that must run again, by the compiled graph and not by any key."""
        found = set(change.direct)
        if change.payload_of:
            found = set(self.ir.descendants(change.payload_of)) - {change.payload_of} if change.follows else set()
        elif change.follows:
            found.update(*(self.ir.descendants(job) for job in change.direct))
        return frozenset(found & self.reads.keys())


def read_graph(config: Any) -> Graph:
    """Compiles `end_to_end` and leaves out the jobs that always run."""
    from imagewright.jobs.job import load_job
    from imagewright.launch.ir import walk
    from imagewright.launch.pipelines import compile_pipeline

    ir = compile_pipeline("end_to_end", config)
    jobs = {name: load_job(name)[0] for name in ir.jobs()}
    found: dict[str, dict[str, str]] = {}
    collect(ir.spec, ir.spec["root"]["dag"], {}, found)
    reads = {name: inputs for name, inputs in found.items() if jobs[name].keyed}
    executors = ir.spec["deploymentSpec"]["executors"]
    containers = {name: executors[label]["container"] for name, label in walk(ir.spec, ir.spec["root"]["dag"])}
    commands = {name: [*containers[name]["command"], *containers[name].get("args", [])] for name in reads}
    return Graph(ir, reads, commands, {name: jobs[name].sections for name in reads})


def sources_of(jobs: list[str], root: Path, scratch: Path) -> dict[str, frozenset[Path]]:
    """Files that each job can reach, found in the bytecode of a copy without its `if TYPE_CHECKING` blocks."""
    from imagewright.jobs.action import section_modules
    from imagewright.jobs.code_digest import INFRASTRUCTURE
    from imagewright.jobs.job import load_job

    bare = scratch / "bare"
    for path in (root / "imagewright").rglob("*.py"):
        tree = WithoutTypeChecking().visit(ast.parse(path.read_bytes()))
        target = bare / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(ast.unparse(ast.fix_missing_locations(tree)), encoding="utf-8")
    found = {}
    for name in jobs:
        job, module = load_job(name)
        finder = ModuleFinder(path=[str(bare)], excludes=list(INFRASTRUCTURE))
        own = Path(module.__file__ or "").relative_to(root)
        finder.run_script(str(bare / own))
        for section in section_modules(job):
            finder.import_hook(section)
        files = {own, *(Path(one.__file__).relative_to(bare) for one in finder.modules.values() if one.__file__)}
        folders = {path.parent for path in files if path.parent.name not in {"imagewright", "recipes", "jobs"}}
        beside = {
            path for folder in folders for path in (root / folder).rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}
        }
        found[name] = frozenset(files | {path.relative_to(root) for path in beside})
    return found


class WithoutTypeChecking(ast.NodeTransformer):
    """Removes what only a type checker reads."""

    def visit_If(self, node: ast.If) -> Any:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return node.orelse or ast.Pass()
        return self.generic_visit(node)


@dataclass
class Bench:
    """A store in a folder, and the real frame over tiny bodies."""

    folder: Path
    graph: Graph
    config: Any
    follows: bool = False
    ran: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        from imagewright.jobs.job import Outcome, load_job
        from imagewright.storage import open_store

        url = f"file://{self.folder}/store"
        self.environ = {"IMAGEWRIGHT_STORE_URL": url, "IMAGEWRIGHT_WORK": str(self.folder / "work"), "IMAGEWRIGHT_GIT_COMMIT": "benchmark"}
        self.store = open_store(url)

        def tiny(name: str) -> Any:
            def run(context: Any) -> Outcome:
                self.ran.add(name)
                (context.output / "payload.txt").write_text(f"{name} {context.archive if self.follows else ''}", encoding="utf-8")
                return Outcome()

            return run

        for name in self.graph.reads:
            load_job(name)[1].run = tiny(name)  # type: ignore[attr-defined]

    def plan(self, config: Any, image: str) -> frozenset[str]:
        """Runs the graph once; returns the jobs whose bodies ran."""
        from imagewright.jobs.frame import run_job

        self.ran = set()
        records: dict[str, Any] = {}
        for name, inputs in self.graph.reads.items():
            given = {key: records[maker] for key, maker in inputs.items()}
            environ = {**self.environ, "IMAGEWRIGHT_IMAGE": image}
            records[name] = run_job(name, config, given, self.folder / "record.json", environ).record
        self.records = records
        shutil.rmtree(self.folder / "work", ignore_errors=True)
        return frozenset(self.ran)

    def entries(self) -> dict[str, bytes]:
        """Every action entry."""
        return {name: self.store.get_named(name).data for name in self.store.list_named("actions/")}  # type: ignore[union-attr]

    def try_change(self, change: Change, base: dict[str, bytes]) -> frozenset[str]:
        """Applies a change, runs the graph, and takes the change and its entries back."""
        self.follows = change.follows
        before = change.file.read_bytes() if change.file else b""
        if change.file:
            change.file.write_bytes(before + change.what.encode())
        if change.payload_of:
            self.replace_payload(change)
        try:
            return self.plan(change.config, change.image)
        finally:
            if change.file:
                change.file.write_bytes(before)
            for name in set(self.store.list_named("actions/")) - base.keys():
                self.store.delete_named(name)
            if change.payload_of:
                for name, data in base.items():
                    self.store.put_named(name, data)

    def replace_payload(self, change: Change) -> None:
        """Gives one job's record other bytes, as a run of it elsewhere would."""
        from imagewright.storage.records import parse_record

        for name in self.store.list_named("actions/"):
            found = self.store.get_named(name)
            assert found is not None
            record = parse_record(found.data, name)
            if record.job == change.payload_of:
                digest = self.store.put_bytes(change.what.encode()) if change.follows else record.digest
                self.store.put_named(name, record.model_copy(update={"digest": digest}).model_dump_json().encode())


class KfpCache:
    """The same graph under kfp's local cache: its keys, its entries, its check of artifacts."""

    def __init__(self, folder: Path, graph: Graph) -> None:
        from kfp.local.cache import LocalCache

        self.folder, self.graph, self.cache, self.runs = folder, graph, LocalCache(str(folder / "cache")), 0

    def plan(self, config: Any, image: str, changed: Change | None = None) -> frozenset[str]:
        """Runs the graph once; returns the tasks that missed. A payload that changed elsewhere is written over the file kfp holds."""
        from kfp import dsl

        self.runs += 1
        missed, outputs = set(), {}
        for name, inputs in self.graph.reads.items():
            arguments = {"config": config.model_dump_json(), **{key: outputs[maker] for key, maker in inputs.items()}}
            key = self.cache.compute_key(f"comp-{name}", image, self.graph.commands[name], arguments)
            found = self.cache.get(key)
            if found is None:
                missed.add(name)
                path = self.folder / f"run-{self.runs}" / name / "output"
                path.parent.mkdir(parents=True)
                path.write_text(name, encoding="utf-8")
                found = {"output": dsl.Artifact(name="output", uri=str(path))}
                self.cache.put(key, found)
            outputs[name] = found["output"]
            if changed is not None and name == changed.payload_of and changed.follows:
                Path(outputs[name].uri).write_text(changed.what, encoding="utf-8")
        return frozenset(missed)


def leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every number and switch of a configuration with its path."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, (*path, key))
    elif isinstance(tree, (bool, int, float)):
        yield path, tree


def change_setting(config: Any, draw: random.Random, graph: Graph, follows: bool) -> Change:
    """Another valid value of a random setting; asked again when the new tree contradicts itself."""
    from imagewright.config.recipe import validate
    from imagewright.errors import ConfigError

    found = list(leaves(config.model_dump(mode="json")))
    while True:
        path, value = draw.choice(found)
        numbers = [value + 1, value - 1, value * 2, value * 0.9 if isinstance(value, float) else 3]
        new = not value if isinstance(value, bool) else draw.choice(numbers)
        tree = config.model_dump(mode="json")
        node = tree
        for part in path[:-1]:
            node = node[part]
        node[path[-1]] = new
        with contextlib.suppress(ConfigError):
            changed = validate(tree)
            if changed != config:
                break
    touched = frozenset(job for job, sections in graph.sections.items() if path[0] in sections or path == ("seed",))
    return Change("config", f"{'.'.join(path)}={new}", touched, follows, changed)


def draw_change(kind: str, number: int, draw: random.Random, bench: Bench, sources: dict[str, frozenset[Path]], root: Path) -> Change:
    """One random change of a kind; half of them make other payloads, half the same bytes again."""
    graph, config, follows = bench.graph, bench.config, number % 2 == 0
    if kind == "config":
        return change_setting(config, draw, graph, follows)
    if kind == "image":
        image = "sha256:" + hashlib.sha256(f"{number}".encode()).hexdigest()
        return Change(kind, image, frozenset(graph.reads), follows, config, image=image)
    if kind == "input":
        job = draw.choice(sorted(graph.reads))
        return Change(kind, f"payload {number}", frozenset(), follows, config, payload_of=job)
    reached = sorted({path for paths in sources.values() for path in paths})
    every = sorted(path.relative_to(root) for path in (root / "imagewright").rglob("*") if path.is_file() and path.suffix != ".pyc")
    path = draw.choice(reached if number % 4 < 3 else every)
    touched = frozenset(job for job, paths in sources.items() if path in paths)
    return Change(kind, f"\n# {number}\n", touched, follows, config, file=root / path)


def measure(options: argparse.Namespace, scratch: Path) -> tuple[dict[str, dict[str, Tally]], list[str], int]:
    """Tallies by side and kind, the mistakes of ours in words, and the number of steps of the graph."""
    from imagewright.config import load_recipe

    root = Path(os.environ[COPY])
    config = load_recipe("debug")
    graph = read_graph(config)
    sources = sources_of(list(graph.reads), root, scratch)
    bench = Bench(scratch / "ours", graph, config)
    sides: dict[str, dict[str, Tally]] = {"imagewright": {}, "kfp": {}}
    mistakes = []
    draw = random.Random(options.seed)
    for kind in KINDS:
        image = IMAGE if kind == "image" else ""
        assert bench.plan(config, image) == graph.reads.keys() or kind in {"config", "input"}
        assert not bench.plan(config, image), "a second run found nothing to do"
        base = bench.entries()
        for number in range(options.changes // len(KINDS)):
            change = draw_change(kind, number, draw, bench, sources, root)
            expected = graph.expected(change)
            rerun = bench.try_change(change, base)
            sides["imagewright"].setdefault(kind, Tally()).add(expected, rerun)
            if rerun != expected:
                what = change.file or change.payload_of or change.what
                mistakes.append(f"{kind} {what}: expected {sorted(expected)}, ran {sorted(rerun)}")
            peer = KfpCache(scratch / f"kfp-{kind}-{number}", graph)
            peer.plan(config, IMAGE, change)
            sides["kfp"].setdefault(kind, Tally()).add(expected, peer.plan(change.config, change.image or IMAGE))
            shutil.rmtree(peer.folder)
    return sides, mistakes, len(graph.reads)


def report(sides: dict[str, dict[str, Tally]], mistakes: list[str], num_steps: int, options: argparse.Namespace) -> str:
    """The table. stale: steps that should have run again and did not; needless: steps that ran although nothing they read had changed."""
    lines = [
        f"command: python benchmarks/mutations.py --changes {options.changes} --seed {options.seed}",
        f"machine: {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}",
        f"peer: kfp {version('kfp')}, kfp.local.cache.LocalCache; graph: end_to_end, {num_steps} steps with a key, tiny bodies, real frame",
        f"{'side':14}{'change of':10}{'changes':>9}{'affected':>10}{'run again':>11}{'stale':>8}{'needless':>10}",
    ]
    for side, kinds in sides.items():
        for kind, tally in kinds.items():
            lines.append(f"{side:14}{kind:10}{tally.changes:9}{tally.affected:10}{tally.rerun:11}{tally.stale:8}{tally.needless:10}")
    wrong = {side: sum(tally.stale + tally.needless for tally in kinds.values()) for side, kinds in sides.items()}
    total = sum(tally.changes for tally in sides["imagewright"].values())
    lines += mistakes[:20]
    verdict = "Reached" if not wrong["imagewright"] else "Missed"
    decided = f"imagewright {wrong['imagewright']}, kfp {wrong['kfp']} (target 0: {verdict})"
    lines.append(f"steps decided wrongly over {total} changes: {decided}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs itself in a copy of the package whose files may be changed, and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mutations_") as name:
        scratch = Path(name)
        if COPY not in os.environ:
            source = Path(__file__).resolve().parents[1] / "src"
            shutil.copytree(source, scratch / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            environ = {**os.environ, COPY: str(scratch / "src"), "PYTHONPATH": str(scratch / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
            for variable in ("MLFLOW_TRACKING_URI", "IMAGEWRIGHT_PIPELINE_RUN", "IMAGEWRIGHT_RUN_FOLDER"):
                environ.pop(variable, None)
            sys.exit(subprocess.run([sys.executable, *sys.argv], env=environ, check=False).returncode)
        started = time.monotonic()
        sides, mistakes, num_steps = measure(options, scratch)
    text = report(sides, mistakes, num_steps, options) + f"took {time.monotonic() - started:.0f} s\n"
    print(text, end="")
    RESULTS.write_text(text, encoding="utf-8")
    sys.exit(bool(mistakes))


if __name__ == "__main__":
    main()
