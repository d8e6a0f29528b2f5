"""Registers a training job's payload as a version of its lineage, so that people and pipelines can name it: `sft@3`.

The frame calls this for every job that says which lineage it makes. Turbo's versions are its servable bundles, which promote-model
registers, and the aesthetic model is registered with its evidence. A payload keeps the version it has. A tracking server that is away
or refuses costs the name and nothing else: the next run that finds the payload registers it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagewright.errors import InputError
from imagewright.jobs.environment import JobEnvironment
from imagewright.jobs.job import Job
from imagewright.storage.records import Record
from imagewright.tracking.lineage_names import IMAGE_MODELS

if TYPE_CHECKING:
    from imagewright.tracking.scores import Score

HEALTH_SECONDS = 5.0
"""MLflow's client tries a server that is away for minutes; a job with finished weights does not wait for that."""


@dataclass(frozen=True)
class ModelRegistration:
    """What it takes to register one job's payload."""

    job: Job
    recipe: str
    inputs: Mapping[str, Record]
    environment: JobEnvironment

    @property
    def is_asked(self) -> bool:
        """Whether the job makes a model of the lineage and a tracking server is configured."""
        return bool(self.job.model and os.environ.get("MLFLOW_TRACKING_URI"))

    def registered(self, record: Record) -> Record:
        """The record with the version that holds its payload, registered now unless one does; the same record where nobody answers."""
        if not self.is_asked or record.revision or record.skipped:
            return record
        uri = os.environ["MLFLOW_TRACKING_URI"]
        try:
            return record.model_copy(update={"revision": self.register(uri, record)}) if answers(uri) else self.unnamed(record, "no answer")
        except InputError as error:
            return self.unnamed(record, str(error))

    def register(self, uri: str, record: Record) -> str:
        """`name@version` of the payload."""
        from imagewright.tracking.models import WEIGHTS, ModelOrigin, ModelRegistry

        origin = ModelOrigin(
            parent=next((self.inputs[name].digest for name in reversed(IMAGE_MODELS) if name in self.inputs), ""),
            data={name: source.revision or source.digest for name, source in self.inputs.items() if source.kind == "dataset"},
            recipe=self.recipe,
            git_commit=record.git_commit,
            image=record.image_digest,
            pipeline_run=self.environment.pipeline_run,
            form=WEIGHTS if self.job.model in IMAGE_MODELS else "",
        )
        return str(ModelRegistry(uri).register(self.job.model, record.digest, origin, bounded(record.metrics)))

    def unnamed(self, record: Record, reason: str) -> Record:
        """Says what did not happen; the weights are kept."""
        print(f"{self.job.name}: not registered as {self.job.model} ({reason}); run the same again to register it", file=sys.stderr)
        return record


def bounded(metrics: Mapping[str, float]) -> dict[str, Score]:
    """Scores of a version: the metrics that have an interval, `name` with `name_low` and `name_high`."""
    from imagewright.tracking.scores import Score

    return {
        name: Score(value, min(metrics[f"{name}_low"], value), max(metrics[f"{name}_high"], value))
        for name, value in metrics.items()
        if f"{name}_low" in metrics and f"{name}_high" in metrics
    }


def answers(uri: str) -> bool:
    """Whether a tracking server over HTTP answers at all; other kinds of address are opened, not asked."""
    if not uri.startswith(("http://", "https://")):
        return True
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=HEALTH_SECONDS):  # noqa: S310 - the scheme is checked above
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
