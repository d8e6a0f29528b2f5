"""The model registry: versions are payload digests with scores and lineage in their tags; weights stay in the store."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion as MlflowVersion
from mlflow.exceptions import MlflowException

from imagewright.errors import Problem
from imagewright.storage.digests import URI_PREFIX
from imagewright.tracking.lineage_names import CHALLENGER, CHAMPION, ModelError, check_model
from imagewright.tracking.scores import EVIDENCE_TAG, Score, score_tags, scores_of

DIGEST = re.compile(r"[0-9a-f]{64}")
ALIAS_ATTEMPTS = 5
WEIGHTS = "weights"
MENTIONED = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


@dataclass(frozen=True)
class ModelOrigin:
    """Where a model comes from. data: input name -> `name@rev` or digest. parent: digest of the weights it started from.

    form: WEIGHTS for a training job's payload, which no server can load; empty for what can be promoted.
    """

    parent: str = ""
    data: Mapping[str, str] = field(default_factory=dict)
    recipe: str = ""
    git_commit: str = ""
    image: str = ""
    pipeline_run: str = ""
    run: str = ""
    form: str = ""

    def tags(self) -> dict[str, str]:
        values = {"parent": self.parent, "recipe": self.recipe, "git_commit": self.git_commit, "image": self.image, "form": self.form}
        values |= {"pipeline_run": self.pipeline_run, "data": json.dumps(dict(self.data), sort_keys=True)}
        return {name: value for name, value in values.items() if value and value != "{}"}


@dataclass(frozen=True)
class ModelVersion:
    """One registered version. evidence: suite -> digest of its results in the store."""

    model: str
    version: int
    digest: str
    origin: ModelOrigin
    scores: dict[str, Score]
    evidence: dict[str, str]

    def __str__(self) -> str:
        return f"{self.model}@{self.version}"

    @property
    def uri(self) -> str:
        return URI_PREFIX + self.digest


def parse_reference(text: str) -> tuple[str, str]:
    """`turbo@7` or `turbo@champion` -> (model, version or alias). Raises ModelError."""
    model, separator, version = text.partition("@")
    check_model(model)
    if not separator or not re.fullmatch(r"[1-9][0-9]{0,8}|[a-z][a-z0-9_-]{0,62}", version):
        raise ModelError(Problem("model", "must be MODEL@VERSION or MODEL@ALIAS", text, f"for example {model}@1 or {model}@{CHAMPION}"))
    return model, version


class ModelRegistry:
    """Model versions on one MLflow server."""

    def __init__(self, uri: str) -> None:
        self._client = MlflowClient(uri)

    def register(
        self, model: str, digest: str, origin: ModelOrigin | None = None, scores: Mapping[str, Score] | None = None
    ) -> ModelVersion:
        """Registers a payload, and makes it challenger unless it is weights; the same digest again returns the version it has.

        Raises ModelError.
        """
        check_model(model)
        if not DIGEST.fullmatch(digest):
            raise ModelError(Problem("digest", "must be 64 hexadecimal digits", digest, "give the digest of the model's record"))
        origin = origin or ModelOrigin()
        found = self.find(digest, model)
        if not found:
            self._make_model(model)
            tags = {"digest": digest} | origin.tags()
            try:
                created = self._client.create_model_version(
                    model, URI_PREFIX + digest, run_id=origin.run or None, tags=tags, await_creation_for=0
                )
            except MlflowException as error:
                raise unreachable(error) from error
            # Two jobs may register one digest at once: the lower number stands, whoever made the other removes it.
            found = self.find(digest, model)
            if found and found[0].version != int(created.version):
                self._client.delete_model_version(model, str(created.version))
            elif origin.form != WEIGHTS:  # what no gate can let through challenges nobody
                self.set_alias(model, CHALLENGER, int(created.version))
        version = found[0]
        if scores:
            self.log_scores(version, scores, {})
        return self.get(model, str(version.version))

    def log_scores(self, version: ModelVersion, scores: Mapping[str, Score], evidence: Mapping[str, str]) -> None:
        """Adds scores and the digests of the results they come from. Later evaluations replace earlier ones of the same name."""
        tags = score_tags(scores) | {EVIDENCE_TAG + suite: digest for suite, digest in evidence.items()}
        try:
            for name, value in tags.items():
                self._client.set_model_version_tag(version.model, str(version.version), name, value)
        except MlflowException as error:
            raise unreachable(error) from error

    def get(self, model: str, version: str) -> ModelVersion:
        """A version by number or alias. Raises ModelError when there is none."""
        check_model(model)
        try:
            if version.isdigit():
                return read_version(self._client.get_model_version(model, version))
            return read_version(self._client.get_model_version_by_alias(model, version))
        except MlflowException as error:
            if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"}:
                raise unreachable(error) from error
            known = ", ".join(str(found.version) for found in self.versions(model)) or "none"
            raise ModelError(
                Problem(f"model {model}", f"has no version or alias {version}", None, f"registered versions: {known}")
            ) from error

    def find(self, digest: str, model: str = "") -> list[ModelVersion]:
        """Versions of a payload, lowest number first; of every lineage unless `model` is given."""
        name = f" and name = '{model}'" if model else ""
        return self._search(f"source_path = '{URI_PREFIX}{digest}'{name}")

    def versions(self, model: str) -> list[ModelVersion]:
        """All versions of a lineage, lowest number first."""
        return self._search(f"name = '{model}'")

    def alias(self, model: str, alias: str = CHAMPION) -> int | None:
        """The version an alias points at, or None."""
        try:
            aliases = self._client.get_registered_model(model).aliases
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise unreachable(error) from error
        return int(aliases[alias]) if alias in aliases else None

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Points an alias at a version. `champion` is set by the promotion log only."""
        for attempt in range(ALIAS_ATTEMPTS):
            try:
                self._client.set_registered_model_alias(model, alias, str(version))
                return
            except MlflowException as error:
                # MLflow reads, then inserts: somebody who made the alias in between breaks the insert, and the next try is an update.
                if "IntegrityError" not in str(error) or attempt + 1 == ALIAS_ATTEMPTS:
                    raise unreachable(error) from error

    def _make_model(self, model: str) -> None:
        try:
            self._client.create_registered_model(model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise unreachable(error) from error

    def mentioned_payloads(self) -> set[str]:
        """Every digest in the source or a tag of any version: weights, parents, data, evidence. Garbage collection keeps them."""
        texts = (text for version in self._pages("") for text in (version.source or "", *version.tags.values()))
        return {digest for text in texts for digest in MENTIONED.findall(text)}

    def _search(self, text: str) -> list[ModelVersion]:
        return sorted((read_version(version) for version in self._pages(text)), key=lambda version: (version.model, version.version))

    def _pages(self, text: str) -> list[MlflowVersion]:
        found: list[MlflowVersion] = []
        token: str | None = None
        try:
            while True:
                page = self._client.search_model_versions(text, max_results=1000, page_token=token)
                found += page
                token = page.token
                if not token:
                    break
        except MlflowException as error:
            raise unreachable(error) from error
        return found


def unreachable(error: MlflowException) -> ModelError:
    """MLflow's own words in our grammar."""
    return ModelError(
        Problem("model registry", f"did not do what was asked: {str(error)[:300]}", None, "check MLFLOW_TRACKING_URI and the server")
    )


def read_version(version: MlflowVersion) -> ModelVersion:
    """Reads tags back into lineage, scores and evidence."""
    tags: dict[str, str] = dict(version.tags)
    data: Any = json.loads(tags.get("data", "{}"))
    origin = ModelOrigin(
        parent=tags.get("parent", ""),
        data=data if isinstance(data, dict) else {},
        recipe=tags.get("recipe", ""),
        git_commit=tags.get("git_commit", ""),
        image=tags.get("image", ""),
        pipeline_run=tags.get("pipeline_run", ""),
        run=version.run_id or "",
        form=tags.get("form", ""),
    )
    evidence = {name.removeprefix(EVIDENCE_TAG): value for name, value in tags.items() if name.startswith(EVIDENCE_TAG)}
    digest = str(version.source).removeprefix(URI_PREFIX)
    return ModelVersion(version.name, int(version.version), digest, origin, scores_of(tags), evidence)
