"""The charts under test: their folders, value files and renders through Helm's own library."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import yaml
from helm_python import Chart

ROOT = Path(__file__).resolve().parents[2]
CHARTS = ("imagewright", "imagewright-serving")
RELEASE, NAMESPACE = "iw", "images"

Values = dict[str, Any]
Manifest = dict[str, Any]


def folder(chart: str) -> Path:
    return ROOT / "helm" / chart


def cases(chart: str) -> list[str]:
    return sorted(path.name.removesuffix("-values.yaml") for path in (folder(chart) / "ci").glob("*-values.yaml"))


ALL_CASES = [(chart, case) for chart in CHARTS for case in cases(chart)]


def parse(text: str) -> list[Any]:
    """Return the documents of a YAML text that hold something; libyaml's safe loader is ten times as fast as the Python one."""
    return [document for document in yaml.load_all(text, Loader=yaml.CSafeLoader) if document]


def case_values(chart: str, case: str) -> Values:
    (values,) = parse((folder(chart) / "ci" / f"{case}-values.yaml").read_text(encoding="utf-8"))
    return values


@functools.cache
def defaults(chart: str) -> Values:
    (values,) = parse((folder(chart) / "values.yaml").read_text(encoding="utf-8"))
    return values


def schema(chart: str) -> dict[str, Any]:
    return json.loads((folder(chart) / "values.schema.json").read_text(encoding="utf-8"))


@functools.cache
def load(chart: str) -> Chart:
    return Chart.load(folder(chart))


def render(chart: str, values: Values) -> dict[str, str]:
    """Render to {template: text}. Raises helm_python's HelmError when values are refused or contradict."""
    return load(chart).render(values, name=RELEASE, namespace=NAMESPACE)


@functools.cache
def render_case(chart: str, case: str) -> dict[str, str]:
    return render(chart, case_values(chart, case))


@functools.cache
def manifests(chart: str, case: str) -> list[Manifest]:
    """Return the rendered objects of one case; tests only read them."""
    rendered = render_case(chart, case)
    texts = [text for template, text in sorted(rendered.items()) if template.endswith(".yaml")]
    return [document for text in texts for document in parse(text)]
