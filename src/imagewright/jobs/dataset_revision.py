"""Names a job's payload in the data registry: a job that makes a dataset says which, and its record then carries `name@v<n>`.

The frame calls this for every such job, so no job commits by itself. Without a configured registry nothing happens. A payload that is
committed already keeps its revision, so neither a cached step nor a commit that was killed and done again makes a second one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagewright.jobs.environment import JobEnvironment
from imagewright.jobs.job import Job
from imagewright.storage import Store
from imagewright.storage.records import Record

if TYPE_CHECKING:
    from imagewright.registry.registry import DataRegistry


@dataclass(frozen=True)
class DatasetCommit:
    """What it takes to commit one job's payload."""

    job: Job
    recipe: str
    inputs: Mapping[str, Record]
    environment: JobEnvironment
    store: Store

    @property
    def is_asked(self) -> bool:
        """Whether the job makes a dataset and a registry is there to name it."""
        return bool(self.job.dataset and self.environment.registry_url)

    def check(self) -> None:
        """Raises RegistryError when the registry cannot be used, before hours of work; a registry on another host is not asked."""
        if self.is_asked:
            self.registry()

    def revised(self, record: Record) -> Record:
        """The record with the revision that holds its payload, committed now unless one does. Raises RegistryError.

        A skipped job handed on its input's payload, which has its name already.
        """
        if not self.is_asked or record.revision or record.skipped:
            return record
        revision = self.registry().commit(self.job.dataset, record.digest, self.message(record))
        return record.model_copy(update={"revision": revision})

    def registry(self) -> DataRegistry:
        """The registry of the environment. The commit is Imagewright's own unless GIT_AUTHOR_EMAIL says whose it is."""
        from imagewright.registry.registry import JOB_IDENTITY, DataRegistry

        identity = None if os.environ.get("GIT_AUTHOR_EMAIL") else JOB_IDENTITY
        return DataRegistry(self.environment.registry_url, self.store, identity=identity)

    def message(self, record: Record) -> str:
        """What made the payload, from what: `imagewright data log` shows the first line."""
        sources = (f"{name}: {source.revision or source.uri}" for name, source in sorted(self.inputs.items()))
        facts = {"Run": self.environment.pipeline_run, "Code": record.git_commit, "Image": record.image_digest}
        lines = [*(f"From {source}" for source in sources), *(f"{name}: {value}" for name, value in facts.items() if value)]
        return "\n\n".join(part for part in (f"{self.job.name}, recipe {self.recipe}", "\n".join(lines)) if part)
