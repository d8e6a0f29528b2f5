"""Values: each is documented, checked by a strict schema and read by a template; contradictions are refused with the fix."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from helm_python import HelmError

from helm.charts import CHARTS, Values, case_values, cases, defaults, load, render, render_case, schema
from helm.golden import Documented, documented_values

# One of these is accepted for every value by its schema, and differs from what the value files set.
CANDIDATES: list[Any] = [
    True,
    False,
    97,
    0,
    "changed",
    "sha256:" + "9" * 64,
    "https://changed.example.com",
    "http://changed.example.com",
    "97Gi",
    "5 5 5 5 5",
    "sft",
    "imagewright://sha256/" + "9" * 64,
    "Always",
    "Never",
    "external",
    "seaweedfs",
    "bundled",
    "git",
    "volume",
    "kserve",
    "deployment",
    "hpa",
    "keda",
    "Knative",
    "Standard",
    ["changed"],
    ["198.51.100.0/24"],
    [9797],
    [{"key": "changed", "operator": "Exists"}],
    [{"kind": "User", "name": "changed"}],
    [{"name": "changed", "value": 97}],
    [{"name": "changed", "nodeLabels": {"changed": "yes"}, "quota": {"cpu": "97"}}],
    {"changed": "yes"},
    {"requests": {"cpu": "97m"}, "limits": {"cpu": "97", "memory": "97Gi"}},
]


def leaves(values: Any, documented: set[tuple[str, ...]], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the paths of values that have nothing documented above them."""
    if path in documented:
        yield path
    elif isinstance(values, dict) and values:
        for key, value in values.items():
            yield from leaves(value, documented, (*path, key))
    else:
        yield path


def changed(values: Values, path: tuple[str, ...], value: Any) -> Values:
    result = copy.deepcopy(values)
    place = result
    for part in path[:-1]:
        place = place.setdefault(part, {})
    place[path[-1]] = value
    return result


def object_schemas(node: Any, whole: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield from object_schemas(whole["$defs"][node["$ref"].rpartition("/")[2]], whole, path)
            return
        if node.get("type") == "object":
            yield path, node
        for key, value in node.get("properties", {}).items():
            yield from object_schemas(value, whole, f"{path}.{key}" if path else key)


@pytest.mark.parametrize("chart", CHARTS)
def test_every_value_is_documented(chart: str) -> None:
    documented = {value.path for value in documented_values(chart)}
    assert [".".join(path) for path in leaves(defaults(chart), documented) if path not in documented] == []


@pytest.mark.parametrize("chart", CHARTS)
def test_the_schema_knows_exactly_the_values_there_are(chart: str) -> None:
    whole = schema(chart)
    for path, node in object_schemas(whole, whole):
        if "properties" in node:
            assert node.get("additionalProperties") is False, f"{path or 'top'} accepts unknown keys"
            here: Any = defaults(chart)
            for part in path.split(".") if path else []:
                here = here[part]
            assert set(node["properties"]) - {"global"} == set(here), path


@pytest.mark.parametrize("chart", CHARTS)
def test_the_defaults_fit_their_own_schema(chart: str) -> None:
    jsonschema.validate(defaults(chart), schema(chart))


@pytest.mark.parametrize(
    ("chart", "value"),
    [(chart, value) for chart in CHARTS for value in documented_values(chart)],
    ids=lambda one: getattr(one, "dotted", one),
)
def test_changing_a_value_changes_what_is_rendered(chart: str, value: Documented) -> None:
    checker = jsonschema.Draft202012Validator(schema(chart))
    # Value files that set something beside the value come first: there it is most likely in use.
    for case in sorted(cases(chart), key=lambda case: value.path[0] not in case_values(chart, case)):
        base = case_values(chart, case)
        before = render_case(chart, case)
        for candidate in CANDIDATES:
            if type(candidate) is not type(value.default) and value.dotted != "trainingRuntime.processesPerNode":
                continue
            values = changed(base, value.path, candidate)
            if not checker.is_valid(load(chart).merge_values(values)):
                continue
            try:
                if render(chart, values) != before:
                    return
            except HelmError:
                return  # a contradiction was found, so the value was read
    pytest.fail(f"no template reads {value.dotted}")


@pytest.mark.parametrize(
    ("chart", "values", "message"),
    [
        ("imagewright", {"objectStoer": {}}, "objectStoer"),
        ("imagewright", {"mlflow": {"replicas": "two"}}, "replicas"),
        ("imagewright", {"images": {"control": {"digest": "latest"}}}, "digest"),
        ("imagewright", {"mlflow": {"resources": {"limits": {"memory": None}}}}, "memory"),
        ("imagewright", {"pods": {"userId": 0}}, "userId"),
        ("imagewright", {"maintenance": {"garbageCollection": {"graceHours": 23}}}, "graceHours"),
        ("imagewright-serving", {"canary": {"weight": 101}}, "weight"),
        ("imagewright-serving", {"canary": {"payload": "turbo@7"}}, "payload"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(chart: str, values: Values, message: str) -> None:
    with pytest.raises(HelmError, match=message):
        load(chart).validate_schema(values)


def test_the_defaults_alone_are_refused_with_everything_that_is_missing() -> None:
    with pytest.raises(HelmError) as refused:
        render("imagewright", {})
    for key in ("images.control.digest", "objectStore.existingSecret", "objectStore.external.endpoint", "mlflow.database.existingSecret"):
        assert key in str(refused.value)


@pytest.mark.parametrize(
    ("chart", "case", "path", "value", "message"),
    [
        ("imagewright", "bundled", "objectStore.external.endpoint", "https://s3.example.com", "contradicts objectStore.mode=seaweedfs"),
        ("imagewright", "external", "registry.mode", "volume", "registry.git.url: contradicts"),
        ("imagewright", "external", "registry.git.url", "", "registry.git.url: is required"),
        ("imagewright", "external", "networkPolicy.externalRanges", [], "networkPolicy.externalRanges: is empty"),
        ("imagewright", "training", "queues.flavors", [], "queues.flavors: is empty"),
        (
            "imagewright",
            "training",
            "queues.priorityClasses",
            [{"name": "research", "value": 1}, {"name": "research", "value": 2}],
            "queues.priorityClasses: names research twice",
        ),
        (
            "imagewright",
            "training",
            "queues.flavors",
            [
                {"name": "a", "nodeLabels": {"p": "a"}, "quota": {"cpu": "1"}},
                {"name": "b", "nodeLabels": {"p": "b"}, "quota": {"memory": "1Gi"}},
            ],
            "must all set a quota for the same resources",
        ),
        ("imagewright", "annotation", "annotation.existingSecret", "", "annotation.existingSecret: is required"),
        ("imagewright", "training", "images.worker.digest", "", "images.worker.digest: is required"),
        ("imagewright", "bundled", "images.postgresql.digest", "", "images.postgresql.digest: is required"),
        ("imagewright-serving", "canary", "route.enabled", False, "canary.enabled: needs route.enabled"),
        ("imagewright-serving", "canary", "route.gateway", "", "route.gateway: is required"),
        ("imagewright-serving", "canary", "canary.payload", "", "canary.payload: is required"),
        ("imagewright-serving", "canary", "apiKeysSecret", "", "apiKeysSecret: is required"),
        ("imagewright-serving", "canary", "platform.s3Secret", "", "platform.s3Secret: is required"),
        ("imagewright-serving", "kserve", "kserve.deploymentMode", "Standard", "needs kserve.deploymentMode=Knative"),
        ("imagewright-serving", "kserve", "route.enabled", True, "contradicts mode=kserve"),
        ("imagewright-serving", "kserve", "autoscaling.mode", "hpa", "contradicts mode=kserve"),
        ("imagewright-serving", "keda", "autoscaling.prometheusUrl", "", "autoscaling.prometheusUrl: is required"),
        ("imagewright-serving", "deployment", "autoscaling.minReplicas", 5, "must not be larger"),
        ("imagewright-serving", "deployment", "autoscaling.minReplicas", 0, "must be at least 1 in mode hpa"),
        ("imagewright-serving", "deployment", "image.digest", "", "image.digest: is required"),
    ],
)
def test_values_that_contradict_are_refused_with_the_fix(chart: str, case: str, path: str, value: Any, message: str) -> None:
    with pytest.raises(HelmError, match=message):
        render(chart, changed(case_values(chart, case), tuple(path.split(".")), value))


def test_as_many_smallest_pods_as_pods_at_most_are_no_contradiction() -> None:
    values = changed(case_values("imagewright-serving", "deployment"), ("autoscaling", "minReplicas"), 4)
    assert render("imagewright-serving", values)
