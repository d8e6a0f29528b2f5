"""The runbook: every command, flag, object, secret, value and message it names is one that there is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import typing
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer
from fixtures import documented_commands as known
from fixtures.documented_commands import commands, split
from helm.charts import case_values, cases, defaults, load, parse

from imagewright.cli.main import app
from imagewright.config import Config, load_recipe
from imagewright.launch.pipelines import pipeline_entry_points
from imagewright.launch.policy import pod_specs

ROOT = Path(__file__).resolve().parents[2]
RUNBOOK = ROOT / "docs" / "operations.md"
DOCUMENTS = [
    RUNBOOK,
    ROOT / "infra" / "k8s" / "README.md",
    ROOT / "infra" / "terraform" / "README.md",
    *sorted((ROOT / "helm").glob("*/README.md")),
]
NAMESPACES = {"imagewright", "kubeflow", "kubeflow-system", "kueue-system"}
RELEASES = {"iw": "imagewright", "images": "imagewright-serving"}
# Kinds of the cluster itself and of its operators; those of the charts are taken from what they render.
OTHER_KINDS = {"node", "pod", "job", "trainjob", "workload", "resourceflavor", "workloadpriorityclass", "crd", "secret", "configmap"}
SHORT_KINDS = {"svc": "service", "crd": "customresourcedefinition"}
# What other software says, in the table of what is stuck; everything else in it must be ours.
SAID_BY_KUBERNETES = {
    'secret "..." not found',
    "CreateContainerConfigError",
    "couldn't find key ... in Secret",
    "exceeded quota",
    "Insufficient nvidia.com/gpu",
    "untolerated taint",
    "ImagePullBackOff",
    'violates PodSecurity "restricted"',
    "Pending",
}
SAID_BY_KUEUE = {"insufficient unused quota", "insufficient quota", "LocalQueue ... doesn't exist", "is inactive"}

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def of(document: Path, program: str) -> list[list[str]]:
    return [words[1:] for words in commands(document) if words[0] == program]


@pytest.fixture(scope="module")
def objects() -> dict[str, list[dict[str, Any]]]:
    """Kind, in small letters -> what the charts render of it, under the names of the runbook's releases."""
    found: dict[str, list[dict[str, Any]]] = {}
    for release, chart in RELEASES.items():
        for case in cases(chart):
            rendered = load(chart).render(case_values(chart, case), name=release, namespace="imagewright")
            for template, text in rendered.items():
                for one in parse(text) if template.endswith(".yaml") else []:
                    found.setdefault(one["kind"].lower(), []).append(one)
    return found


def named(arguments: list[str]) -> Iterator[tuple[str, str]]:
    """(kind, name) of every object among the arguments of a kubectl command; an empty name for a whole kind."""
    if "/" in arguments[0]:
        for word in arguments:
            kind, slash, name = word.partition("/")
            if slash:
                yield kind, name
        return
    for kind in arguments[0].split(","):
        yield kind, arguments[1] if len(arguments) > 1 and "=" not in arguments[1] else ""


def singular(kind: str, kinds: set[str]) -> str:
    kind = SHORT_KINDS.get(kind, kind)
    return next((one for one in (kind, kind.removesuffix("s"), kind.removesuffix("es")) if one in kinds), "")


@each_document
def test_every_program_is_one_we_know(document: Path) -> None:
    programs = {words[0] for words in commands(document)}
    assert programs <= {"kubectl", "helm", "imagewright", "make", "terraform"} | known.OTHER_PROGRAMS


@each_document
def test_commands_of_imagewright_parse(document: Path) -> None:
    for words in of(document, "imagewright"):
        command: Any = typer.main.get_command(app)
        rest = words
        while hasattr(command, "commands"):
            assert rest[0] in command.commands, f"imagewright {' '.join(words)}"
            command, rest = command.commands[rest[0]], rest[1:]
            if not rest:
                break
        if not rest:
            continue  # named, not run
        parsed = command.make_context(command.name, list(rest)).params
        assert parsed.get("pipeline", "end_to_end") in pipeline_entry_points()
        if parsed.get("overrides"):
            load_recipe(parsed["recipe"], parsed["overrides"])


@each_document
def test_make_targets_exist(document: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for words in of(document, "make"):
        target, *settings = words
        assert re.search(rf"^{target}:.*##", makefile, re.MULTILINE), target
        for setting in settings:
            assert f"$({setting.partition('=')[0]})" in makefile, setting


@each_document
def test_helm_commands_name_charts_and_values_that_exist(document: Path) -> None:
    for words in of(document, "helm"):
        arguments, flags = split(words[1:], known.HELM[words[0]])
        assert set(flags) <= known.HELM[words[0]], words
        assert arguments[0] in RELEASES
        if len(arguments) > 1:
            assert ROOT / arguments[1] == ROOT / "helm" / RELEASES[arguments[0]]
        for setting in flags.get("--set", []):
            assert value_at(defaults(RELEASES[arguments[0]]), setting.partition("=")[0]), setting


@each_document
def test_terraform_commands_name_files_and_outputs_that_exist(document: Path) -> None:
    outputs = (ROOT / "infra" / "terraform" / "environment" / "outputs.tf").read_text(encoding="utf-8")
    for words in of(document, "terraform"):
        arguments, flags = split(words, set())
        folder = ROOT / flags.pop("-chdir", ["infra/terraform/environment"])[0]
        assert set(flags) <= known.TERRAFORM[arguments[0]], words
        assert all((folder / name).is_file() for name in flags.get("-var-file", []))
        assert arguments[0] != "output" or f'output "{arguments[1]}"' in outputs


@each_document
def test_kubectl_commands_name_objects_that_exist(document: Path, objects: dict[str, list[dict[str, Any]]]) -> None:
    kinds = set(objects) | OTHER_KINDS | set(SHORT_KINDS.values()) | {"namespace", "persistentvolumeclaim"}
    for words in of(document, "kubectl"):
        arguments, flags = split(words, known.KUBECTL_VALUES)
        verb = next(one for one in (" ".join(arguments[:length]) for length in (3, 2, 1)) if one in known.KUBECTL)
        assert set(flags) <= known.KUBECTL[verb] | known.KUBECTL_GLOBAL, words
        assert {*flags.get("-n", []), *flags.get("--namespace", [])} <= NAMESPACES
        assert all((ROOT / folder / "kustomization.yaml").is_file() for folder in flags.get("-k", []))
        assert all((ROOT / path).is_file() for path in flags.get("-f", []) if path != "-")
        rest = arguments[len(verb.split()) :]
        given = [*flags.get("--from", []), *(one for one in flags.get("--for", []) if "/" in one)]
        if verb.startswith("create ") or verb in {"cordon", "uncordon", "drain", "apply", "events"}:
            rest = []
        for kind, name in [pair for one in [rest, *([one] for one in given)] if one for pair in named(one)]:
            found = singular(kind, kinds)
            assert found, f"{kind} in {words}"
            if name.startswith(("iw-", "images-")):
                assert name in {one["metadata"]["name"] for one in objects[found]}, words


def test_ports_are_those_of_the_services(objects: dict[str, list[dict[str, Any]]]) -> None:
    forwards = [split(words, known.KUBECTL_VALUES)[0] for words in of(RUNBOOK, "kubectl") if "port-forward" in words]
    ours = [(target.partition("/")[2], int(port)) for _, target, port in forwards if "iw-" in target]
    assert ours
    for name, port in ours:
        services = [one for one in objects["service"] if one["metadata"]["name"] == name]
        assert port in {one["port"] for service in services for one in service["spec"]["ports"]}


def test_patches_give_objects_that_are_valid(objects: dict[str, list[dict[str, Any]]]) -> None:
    patched = 0
    for words in of(RUNBOOK, "kubectl"):
        arguments, flags = split(words, known.KUBECTL_VALUES)
        if arguments[0] == "patch":
            kind, name = arguments[1:]
            one = next(one for one in objects[kind] if one["metadata"]["name"] == name)
            (patch,) = map(json.loads, flags["--patch"])
            changed = {**one, "spec": {**one["spec"], **patch["spec"]}}
            if kind == "cronjob":
                kubernetes_validate.validate(changed, "1.33", strict=True)
            else:
                # Source of the values: kueue v0.19, apis/kueue/v1beta2, StopPolicy.
                assert (kind, set(patch["spec"])) == ("clusterqueue", {"stopPolicy"})
                assert patch["spec"]["stopPolicy"] in {"None", "Hold", "HoldAndDrain"}
            patched += 1
    assert patched >= 4


def test_the_secrets_of_the_runbook_are_those_the_charts_read(objects: dict[str, list[dict[str, Any]]]) -> None:
    read: dict[str, set[str]] = {}
    for one in (thing for things in objects.values() for thing in things):
        for _, pod, _ in pod_specs(one):
            for container in [*pod.get("initContainers", []), *pod["containers"]]:
                for variable in container.get("env", []):
                    reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
                    if reference:
                        read.setdefault(reference["name"], set()).add(reference["key"])
                mounted = {one["name"]: one["mountPath"] for one in container.get("volumeMounts", [])}
                for volume in pod.get("volumes", []):
                    if "secret" in volume and volume["name"] in mounted:
                        keys = re.findall(rf"{mounted[volume['name']]}/([\w-]+)", json.dumps(container["env"]))
                        read.setdefault(volume["secret"]["secretName"], set()).update(keys)
    made: dict[str, set[str]] = {}
    for words in of(RUNBOOK, "kubectl"):
        arguments, flags = split(words, known.KUBECTL_VALUES)
        if arguments[:3] == ["create", "secret", "generic"]:
            made.setdefault(arguments[3], set()).update(one.partition("=")[0] for one in flags["--from-literal"])
    assert set(made) == set(read)
    # An external database takes `uri` in place of `password`.
    assert all(keys <= read[name] for name, keys in made.items())
    assert {name: read[name] - keys for name, keys in made.items() if read[name] - keys} == {"imagewright-mlflow": {"uri"}}


def test_values_and_settings_in_backticks_exist() -> None:
    charts = [defaults(chart) for chart in RELEASES.values()]
    heads = {head for values in charts for head in values} | set(Config.model_fields)
    quoted = set(re.findall(r"`([a-z]\w+(?:\.\w+)+)`", RUNBOOK.read_text(encoding="utf-8")))
    checked = {name for name in quoted if name.split(".", maxsplit=1)[0] in heads}
    assert len(checked) > 15
    assert {name for name in checked if not any(value_at(values, name) for values in charts) and not setting_at(name)} == set()


def value_at(values: dict[str, Any], path: str) -> bool:
    """Whether a chart has a value at a dotted path."""
    node: Any = values
    for key in path.split("."):
        if not isinstance(node, dict) or key not in node:
            return False
        node = node[key]
    return True


def setting_at(path: str) -> bool:
    """Whether the configuration has a setting at a dotted path."""
    model: Any = Config
    for key in path.split("."):
        fields = getattr(model, "model_fields", {})
        if key not in fields:
            return False
        annotation = fields[key].annotation
        model = next((one for one in (annotation, *typing.get_args(annotation)) if hasattr(one, "model_fields")), None)
    return True


def test_every_alert_has_a_line_and_every_line_an_alert(objects: dict[str, list[dict[str, Any]]]) -> None:
    alerts = {rule["alert"] for one in objects["prometheusrule"] for group in one["spec"]["groups"] for rule in group["rules"]}
    assert set(re.findall(r"`(Imagewright\w+)`", RUNBOOK.read_text(encoding="utf-8"))) == alerts


def test_messages_of_ours_are_said_somewhere() -> None:
    (table,) = re.findall(r"^\| what you read \|.*?\n\n", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    said = {text for row in table.strip().splitlines()[2:] for text in re.findall(r"`([^`]+)`", row.split("|")[1])}
    folders = [ROOT / "src" / "imagewright" / name for name in ("launch", "storage")]
    source = "\n".join(path.read_text(encoding="utf-8") for folder in folders for path in folder.glob("*.py"))
    ours = said - SAID_BY_KUBERNETES - SAID_BY_KUEUE
    assert len(ours) >= 4
    assert {text for text in ours if text not in source} == set()


def test_kubectl_knows_its_verbs_and_flags() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        warnings.warn("kubectl is not on PATH: verbs and flags were checked against our own list only", stacklevel=1)
        return
    for verb, flags in known.KUBECTL.items():
        shown = subprocess.run([kubectl, *verb.split(), "--help"], capture_output=True, text=True, check=True, timeout=60).stdout
        for flag in {one.replace("-it", "-i") for one in flags}:
            assert re.search(rf"(^|[\s,]){re.escape(flag)}[=,\s]", shown), f"kubectl {verb} {flag}"
