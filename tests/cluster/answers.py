"""What the cluster suite must be told of a cluster before it may touch it: an answers file, and a KUBECONFIG that was set on purpose."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml
from pydantic import Field, ValidationError

from imagewright.config.base import Section
from imagewright.errors import InputError, Problem

VARIABLE = "IMAGEWRIGHT_CLUSTER_ANSWERS"
EXAMPLE = Path(__file__).parent / "answers.example.yaml"
MAX_BYTES = 64 << 10
IMAGE = r"^[^\s@]+@sha256:[0-9a-f]{64}$"


class Answers(Section):
    """A cluster's particulars."""

    kubeflow_url: str = Field(pattern=r"^https?://\S+$")
    kubeflow_namespace: str = Field(default="kubeflow", min_length=1)
    """Where step pods run."""
    step_account: str = Field(default="pipeline-runner", min_length=1)
    """Service account of step pods."""
    control_image: str = Field(pattern=IMAGE)
    worker_image: str = Field(pattern=IMAGE)
    serve_image: str = Field(pattern=IMAGE)
    postgresql_image: str = Field(pattern=IMAGE)
    shared_storage_class: str = Field(min_length=1)
    """A class that offers ReadWriteMany."""
    node_labels: dict[str, str] = Field(min_length=1)
    """Labels of the nodes that train; no GPU is needed."""
    gateway: str = Field(min_length=1)
    gateway_namespace: str = Field(min_length=1)
    deadline_minutes: int = Field(default=120, ge=1, le=180)
    """Longest wait for the pipeline; less than pytest's own limit in the Makefile, which cannot say what it waited for."""


def read_answers(environ: Mapping[str, str]) -> Answers:
    """The file that the variable names. Raises InputError with everything that is missing."""
    problems = []
    if not environ.get("KUBECONFIG"):
        problems.append(
            Problem("KUBECONFIG", "must name the cluster to test on; the default one is never taken", None, "export KUBECONFIG=...")
        )
    path = environ.get(VARIABLE, "")
    if not path:
        fix = "fill in tests/cluster/answers.example.yaml, then: make test-cluster ANSWERS=my-answers.yaml"
        problems.append(Problem(VARIABLE, "must name a file that describes the cluster", None, fix))
    if problems:
        raise InputError(problems)
    try:
        with Path(path).open("rb") as file:
            found = yaml.safe_load(file.read(MAX_BYTES))
        return Answers.model_validate(found)
    except (OSError, yaml.YAMLError) as error:
        raise InputError(Problem(VARIABLE, f"cannot be read: {error}", path)) from error
    except ValidationError as error:
        found = [Problem(".".join(map(str, one["loc"])) or VARIABLE, one["msg"], one.get("input")) for one in error.errors()]
        raise InputError(found) from error
