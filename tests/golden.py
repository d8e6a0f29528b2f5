"""Rewrites everything in the repository that is generated: `make golden`.

Compiled pipelines, chart renders, component and chart READMEs, the tables of the README and the package list of pyproject.toml.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import yaml
from fixtures.train_request import REQUEST, placement
from helm.golden import generated as chart_files

from imagewright.config import load_recipe
from imagewright.jobs.job import Job, load_job
from imagewright.launch.pipelines import compile_pipeline, pipeline_entry_points
from imagewright.launch.train_job import build_train_job

ROOT = Path(__file__).resolve().parents[1]
COMPONENTS = ROOT / "components"
PACKAGE_FOLDERS = (("src/imagewright", "imagewright"), ("pipelines", "imagewright_pipelines"), ("components", "imagewright_components"))


def compiled_pipelines() -> Iterator[tuple[Path, str]]:
    """Path and text of every compiled pipeline, with the default placement."""
    config = load_recipe("debug")
    for name in pipeline_entry_points():
        yield ROOT / "pipelines" / "compiled" / f"{name}.yaml", compile_pipeline(name, config).to_yaml()


def launched_training() -> Iterator[tuple[Path, str]]:
    """What placement changes in a graph: pretraining on two nodes, with the TrainJob its step makes, and curation in slices."""
    config = load_recipe("debug").model_copy(update={"placement": placement()})
    yield ROOT / "pipelines" / "compiled" / "pretraining_two_nodes.yaml", compile_pipeline("pretraining", config).to_yaml()
    sliced = config.model_copy(update={"placement": placement(score_slices=4)})
    yield ROOT / "pipelines" / "compiled" / "data_curation_slices.yaml", compile_pipeline("data_curation", sliced).to_yaml()
    train_job = yaml.safe_dump(build_train_job(REQUEST, placement()), sort_keys=True)
    yield ROOT / "tests" / "unit" / "launch" / "golden" / "train_job.yaml", train_job


def component_modules() -> dict[str, str]:
    """Component name -> module, for every component folder."""
    found = sorted(COMPONENTS.glob("*/*/component.py"))
    return {path.parent.name: f"imagewright_components.{path.parent.parent.name}.{path.parent.name}.component" for path in found}


def component_readmes() -> Iterator[tuple[Path, str]]:
    """Path and text of every component's README."""
    for name, module_name in component_modules().items():
        module = importlib.import_module(module_name)
        component = getattr(module, name)
        job, job_module = load_job(name.replace("_", "-"))
        yield Path(inspect.getfile(module)).parent / "README.md", component_readme(component, job, job_module.__doc__ or "")


def component_readme(component: object, job: Job, job_doc: str) -> str:
    """The README of one component: what it does, its inputs, outputs and configuration."""
    spec = component.component_spec  # type: ignore[attr-defined]
    lines = [f"# {job.name}", "", spec.description or "", "", first_paragraph(job_doc), ""]
    lines += ["| name | direction | type |", "|---|---|---|"]
    lines += [
        f"| `{name}` | in | {type_name(item.type)}{' (optional)' if item.optional else ''} |" for name, item in (spec.inputs or {}).items()
    ]
    lines += [f"| `{name}` | out | {type_name(item.type)} |" for name, item in (spec.outputs or {}).items()]
    sections = ", ".join(f"`{section}`" for section in job.sections) or "none"
    again = "Its record is found by action key; it runs once for the same inputs." if job.keyed else "It always runs."
    lines += ["", f"Configuration sections: {sections}. {again}", "", f"By hand: `imagewright job {job.name}`", ""]
    return "\n".join(lines)


def type_name(text: str) -> str:
    """`system.Dataset@0.0.1` -> `Dataset`."""
    return text.removeprefix("system.").split("@", maxsplit=1)[0]


def first_paragraph(text: str) -> str:
    """First paragraph of a docstring on one line."""
    return " ".join(text.strip().split("\n\n", maxsplit=1)[0].split())


def packages() -> list[str]:
    """Every package the wheel must hold."""
    found = []
    for folder, name in PACKAGE_FOLDERS:
        for init in sorted((ROOT / folder).rglob("__init__.py")):
            found.append(".".join([name, *init.parent.relative_to(ROOT / folder).parts]))
    return found


def project_file() -> tuple[Path, str]:
    """pyproject.toml with its package list brought up to date."""
    path = ROOT / "pyproject.toml"
    listed = "".join(f'    "{package}",\n' for package in packages())
    text = re.sub(
        r"^packages = \[.*?^\]|^packages = \[.*\]$",
        f"packages = [\n{listed}]",
        path.read_text(encoding="utf-8"),
        flags=re.MULTILINE | re.DOTALL,
    )
    return path, text


def generated() -> list[tuple[Path, str]]:
    """Everything generated: path and text it must hold."""
    return [project_file(), *component_readmes(), *compiled_pipelines(), *launched_training(), *chart_files()]


def main() -> None:
    """Writes what differs and says so."""
    for path, text in generated():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
