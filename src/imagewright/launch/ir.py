"""Reads and prunes compiled pipelines (KFP's intermediate representation)."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from imagewright.errors import InputError, Problem

Tree = dict[str, Any]
IMPORTS = {"import-dataset": "dataset", "import-model": "model"}
"""Tasks that only hand a record on, and its kind."""
EXIT_STRATEGY = "ALL_UPSTREAM_TASKS_COMPLETED"
SYMBOLIC_IMAGE = "imagewright-worker"
"""Image of every component in the compiled pipelines; submission replaces it, so golden files never change with a build."""


@dataclass(frozen=True)
class DeclaredInput:
    """A record a pipeline is fed with. kind: `dataset` or `model`."""

    kind: str
    required: bool


@dataclass(frozen=True)
class PipelineIR:
    """A compiled pipeline: its spec and, when placement sets node pools or secrets, its platform spec."""

    spec: Tree
    platform: Tree | None = None

    @property
    def name(self) -> str:
        """Name of the pipeline."""
        return str(self.spec["pipelineInfo"]["name"])

    def to_yaml(self) -> str:
        """The YAML kfp itself would write: one document, or two with a platform spec."""
        documents = [self.spec] if self.platform is None else [self.spec, self.platform]
        return yaml.safe_dump_all(documents, sort_keys=True, allow_unicode=True)

    def jobs(self) -> list[str]:
        """Job names in the order they can run, the exit handler last."""
        return [job for job, _ in walk(self.spec, self.spec["root"]["dag"])]

    def descendants(self, job: str) -> frozenset[str]:
        """`job` and every job after it: all that follow it in the data flow, across nested pipelines."""
        return frozenset(reached(self.spec, self.spec["root"]["dag"], job, frozenset())[0])

    def inputs(self) -> dict[str, DeclaredInput]:
        """Records this pipeline is fed with, by name."""
        found = {}
        for component in self.spec["components"].values():
            for task in component.get("dag", {}).get("tasks", {}).values():
                kind = IMPORTS.get(job_name(self.spec, leaf)) if "executorLabel" in (leaf := component_of(self.spec, task)) else None
                if kind is not None:
                    constants = {
                        name: value.get("runtimeValue", {}).get("constant") for name, value in task["inputs"]["parameters"].items()
                    }
                    found[str(constants["name"])] = DeclaredInput(kind, not constants["optional"])
        return found

    def until(self, job: str) -> PipelineIR:
        """This pipeline pruned to `job` and its ancestors, with the exit handler."""
        known = self.jobs()
        if job not in known:
            nearest = difflib.get_close_matches(job, known, n=1)
            fix = f"did you mean {nearest[0]!r}?" if nearest else f"jobs of {self.name}: {', '.join(known)}"
            raise InputError(Problem("--until", "is not a job of this pipeline", job, fix))
        spec = copy.deepcopy(self.spec)
        prune(spec, spec["root"]["dag"], job)
        drop_outputs(spec["root"])
        drop_unreachable(spec)
        return PipelineIR(spec, self.platform)


def parse_ir(text: str) -> PipelineIR:
    """Parses compiled YAML."""
    documents = list(yaml.safe_load_all(text))
    return PipelineIR(documents[0], documents[1] if len(documents) > 1 else None)


def pin_images(pipeline: PipelineIR, image: str) -> PipelineIR:
    """Replaces the symbolic image in every executor by one that cannot change under a run."""
    spec = copy.deepcopy(pipeline.spec)
    for executor in spec["deploymentSpec"]["executors"].values():
        if executor.get("container", {}).get("image") == SYMBOLIC_IMAGE:
            executor["container"]["image"] = image
    return PipelineIR(spec, pipeline.platform)


def walk(spec: Tree, dag: Tree) -> Iterator[tuple[str, str]]:
    """Yields (job name, executor label) of every job below `dag`, in an order that respects dependencies. Imported records are no jobs."""
    for name in ordered(dag["tasks"]):
        component = component_of(spec, dag["tasks"][name])
        if "dag" in component:
            yield from walk(spec, component["dag"])
        elif job_name(spec, component) not in IMPORTS:
            yield job_name(spec, component), component["executorLabel"]


def component_of(spec: Tree, task: Tree) -> Tree:
    """The component a task runs."""
    component: Tree = spec["components"][task["componentRef"]["name"]]
    return component


def job_name(spec: Tree, component: Tree) -> str:
    """Name of the job a leaf component runs, from its executor's label: `exec-pretrain-dit-2` runs `pretrain-dit`."""
    label: str = component["executorLabel"].removeprefix("exec-")
    executor = spec["deploymentSpec"]["executors"][component["executorLabel"]]
    command = executor.get("container", {}).get("args", [])
    if "--function_to_execute" in command:
        function: str = command[command.index("--function_to_execute") + 1]
        return function.replace("_", "-")
    return label


def upstream(task: Tree) -> set[str]:
    """Tasks of the same DAG this task needs."""
    needed = set(task.get("dependentTasks", []))
    inputs = task.get("inputs", {})
    for artifact in inputs.get("artifacts", {}).values():
        if "taskOutputArtifact" in artifact:
            needed.add(artifact["taskOutputArtifact"]["producerTask"])
    for parameter in inputs.get("parameters", {}).values():
        if "taskOutputParameter" in parameter:
            needed.add(parameter["taskOutputParameter"]["producerTask"])
    return needed


def ordered(tasks: Tree) -> list[str]:
    """Task names so that each follows what it needs; ties in the order of their names."""
    done: list[str] = []
    waiting = sorted(tasks)
    while waiting:
        ready = [name for name in waiting if upstream(tasks[name]) <= {*done}]
        assert ready, "a compiled DAG has no cycle"
        done.append(ready[0])
        waiting.remove(ready[0])
    return done


def reached(spec: Tree, dag: Tree, job: str, stale_inputs: frozenset[str]) -> tuple[set[str], set[str]]:
    """Jobs of `dag` that run again when `job` does, and the outputs of `dag` that change with them.

    stale_inputs: names of this DAG's inputs whose producers run again.
    """
    stale_jobs: set[str] = set()
    stale_outputs: dict[str, set[str]] = {}
    for name in ordered(dag["tasks"]):
        task = dag["tasks"][name]
        component = component_of(spec, task)
        inputs = frozenset(
            key for key, source in task.get("inputs", {}).get("artifacts", {}).items() if is_stale(source, stale_outputs, stale_inputs)
        )
        after_stale = any(stale_outputs.get(needed) for needed in only_before(task))
        if "dag" in component:
            jobs, outputs = reached(spec, component["dag"], job, inputs)
        else:
            leaf = job_name(spec, component)
            again = leaf == job or bool(inputs) or after_stale
            jobs = {leaf} if again else set()
            outputs = set(component.get("outputDefinitions", {}).get("artifacts", {})) | {""} if again else set()
        stale_jobs |= jobs
        stale_outputs[name] = outputs
    selectors = dag.get("outputs", {}).get("artifacts", {})
    changed = {
        output
        for output, source in selectors.items()
        if any(chosen["outputArtifactKey"] in stale_outputs.get(chosen["producerSubtask"], set()) for chosen in source["artifactSelectors"])
    }
    return stale_jobs, changed | ({""} if stale_jobs else set())


def is_stale(source: Tree, stale_outputs: dict[str, set[str]], stale_inputs: frozenset[str]) -> bool:
    """True when an artifact input comes from something that runs again."""
    produced = source.get("taskOutputArtifact")
    if produced is not None:
        return produced["outputArtifactKey"] in stale_outputs.get(produced["producerTask"], set())
    return source.get("componentInputArtifact") in stale_inputs


def only_before(task: Tree) -> set[str]:
    """Tasks this one waits for without taking anything from them: all for an exit handler, the slices for what gathers them."""
    artifacts = task.get("inputs", {}).get("artifacts", {}).values()
    taken_from = {source["taskOutputArtifact"]["producerTask"] for source in artifacts if "taskOutputArtifact" in source}
    return set(task.get("dependentTasks", [])) - taken_from


def prune(spec: Tree, dag: Tree, job: str) -> None:
    """Keeps, in `dag` and the DAGs inside it, the tasks that lead to `job`; exit handlers stay."""
    tasks = dag["tasks"]
    holders = [name for name, task in tasks.items() if holds(spec, task, job)]
    keep = set(holders)
    pending = list(holders)
    while pending:
        for needed in upstream(tasks[pending.pop()]) - keep:
            keep.add(needed)
            pending.append(needed)
    keep |= {
        name for name, task in tasks.items() if task.get("triggerPolicy", {}).get("strategy") == EXIT_STRATEGY and upstream(task) & keep
    }
    for name in holders:
        component = component_of(spec, tasks[name])
        if "dag" in component:
            prune(spec, component["dag"], job)
            drop_outputs(component)
    dag["tasks"] = {name: task for name, task in tasks.items() if name in keep}


def holds(spec: Tree, task: Tree, job: str) -> bool:
    """True when the task is, or contains, the job."""
    component = component_of(spec, task)
    if "dag" in component:
        return any(name == job for name, _ in walk(spec, component["dag"]))
    return job_name(spec, component) == job


def drop_outputs(component: Tree) -> None:
    """Removes outputs of a sub-DAG whose producers were pruned."""
    tasks = component["dag"]["tasks"]
    outputs = component["dag"].get("outputs", {})
    for kind, selector_list in (("artifacts", "artifactSelectors"), ("parameters", "parameterSelectors")):
        for name, output in list(outputs.get(kind, {}).items()):
            selectors = output.get(selector_list) or [output.get("valueFromParameter", {})]
            if any(selector.get("producerSubtask") not in tasks for selector in selectors):
                del outputs[kind][name]
                component.get("outputDefinitions", {}).get(kind, {}).pop(name, None)


def drop_unreachable(spec: Tree) -> None:
    """Removes components and executors that no task names any more."""
    used: set[str] = set()
    pending = [spec["root"]["dag"]]
    while pending:
        for task in pending.pop()["tasks"].values():
            name = task["componentRef"]["name"]
            if name not in used:
                used.add(name)
                component = spec["components"][name]
                if "dag" in component:
                    pending.append(component["dag"])
    spec["components"] = {name: component for name, component in spec["components"].items() if name in used}
    labels = {component["executorLabel"] for component in spec["components"].values() if "executorLabel" in component}
    executors = spec["deploymentSpec"]["executors"]
    spec["deploymentSpec"]["executors"] = {label: executor for label, executor in executors.items() if label in labels}
