"""The few MLflow REST calls a run needs, each tried once: the spool decides what is tried again and when.

MLflow's own client retries for minutes inside one call, which would hold the delivery thread and a job that wants to end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from imagewright.errors import Problem
from imagewright.tracking.job_run import TrackingError

API = "/api/2.0/mlflow/"
TIMEOUT_SECONDS = 30
# Refusals that sending again cannot change. Everything else, wrong credentials included, may be mended while the job runs.
FINAL_CODES = frozenset({"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS"})


class ServerDownError(Exception):
    """The server is down, answers 5xx, or is not MLflow at the moment: worth trying again."""


class ServerRefusedError(Exception):
    """MLflow understood the request and will never take it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class TrackingServer:
    """One MLflow server, by its http(s) address."""

    def __init__(self, uri: str) -> None:
        if urlsplit(uri).scheme not in {"http", "https"}:
            raise TrackingError(
                Problem(
                    "MLFLOW_TRACKING_URI",
                    "must be the http(s) address of a server",
                    uri,
                    "start one with `imagewright up` and use its address",
                )
            )
        self.uri = uri

    def call(self, method: str, endpoint: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """One request; the JSON answer. Raises ServerDownError or ServerRefusedError."""
        payload: dict[str, Any] = {"params": body} if method == "GET" else {"json": body}
        try:
            response = http_request(
                get_default_host_creds(self.uri),
                API + endpoint,
                method,
                max_retries=0,
                timeout=TIMEOUT_SECONDS,
                raise_on_status=False,
                **payload,
            )
        except (MlflowException, requests.RequestException) as error:
            raise ServerDownError(str(error)[:500]) from error
        try:
            answer = json.loads(response.text)
        except ValueError:
            answer = None
        if response.status_code == 200 and isinstance(answer, dict):
            return answer
        code = str(answer.get("error_code", "")) if isinstance(answer, dict) else ""
        message = str(answer.get("message", ""))[:500] if isinstance(answer, dict) else f"status {response.status_code}"
        if 400 <= response.status_code < 500 and code in FINAL_CODES:
            raise ServerRefusedError(code, message)
        raise ServerDownError(f"status {response.status_code} {code} {message}".strip())

    def experiment(self, name: str) -> str:
        """Id of the experiment, made when it is not there."""
        try:
            found = self.call("GET", "experiments/get-by-name", {"experiment_name": name})
            return str(found["experiment"]["experiment_id"])
        except ServerRefusedError as error:
            if error.code != "RESOURCE_DOES_NOT_EXIST":
                raise
        try:
            return str(self.call("POST", "experiments/create", {"name": name})["experiment_id"])
        except ServerRefusedError as error:  # another job made it in between
            if error.code != "RESOURCE_ALREADY_EXISTS":
                raise
            return str(self.call("GET", "experiments/get-by-name", {"experiment_name": name})["experiment"]["experiment_id"])

    def search_runs(self, experiment: str, tags: Mapping[str, str]) -> list[dict[str, Any]]:
        """Live runs of the experiment that carry all `tags`, oldest first."""
        text = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        body = {"experiment_ids": [experiment], "filter": text, "max_results": 200, "order_by": ["attributes.start_time ASC"]}
        runs: list[dict[str, Any]] = self.call("POST", "runs/search", body).get("runs", [])
        return runs

    def get_run(self, run: str) -> dict[str, Any]:
        """The run with its tags. Raises ServerRefusedError when there is none."""
        found: dict[str, Any] = self.call("GET", "runs/get", {"run_id": run})["run"]
        return found

    def create_run(self, experiment: str, name: str, tags: Mapping[str, str], start_time: int) -> str:
        body = {"experiment_id": experiment, "run_name": name, "start_time": start_time, "tags": pairs(tags)}
        return str(self.call("POST", "runs/create", body)["run"]["info"]["run_id"])

    def delete_run(self, run: str) -> None:
        self.call("POST", "runs/delete", {"run_id": run})

    def finish_run(self, run: str, status: str, end_time: int) -> None:
        self.call("POST", "runs/update", {"run_id": run, "status": status, "end_time": end_time})

    def log_batch(
        self,
        run: str,
        metrics: Sequence[Mapping[str, Any]] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Sends at most 1,000 points, 100 params, 100 tags."""
        body = {"run_id": run, "metrics": list(metrics), "params": pairs(params or {}), "tags": pairs(tags or {})}
        self.call("POST", "runs/log-batch", body)

    def log_dataset(self, run: str, name: str, digest: str, source: str, context: str) -> None:
        """Names a dataset input. MLflow keeps 36 characters of a digest: the first of ours; the whole one is in the source."""
        dataset = {
            "name": name,
            "digest": digest[:36],
            "source_type": "imagewright",
            "source": json.dumps({"uri": source, "sha256": digest}),
        }
        inputs = [{"tags": [{"key": "mlflow.data.context", "value": context}], "dataset": dataset}]
        self.call("POST", "runs/log-inputs", {"run_id": run, "datasets": inputs})

    def upload(self, run: str, path: Path, folder: str) -> None:
        """Uploads a file or the content of a folder as artifacts. Raises ServerDownError on any failure: storage may come back."""
        client = MlflowClient(self.uri)
        try:
            if path.is_dir():
                client.log_artifacts(run, str(path), folder or None)
            else:
                client.log_artifact(run, str(path), folder or None)
        except Exception as error:  # boto3, requests and MLflow each have their own families
            raise ServerDownError(f"artifact {path.name}: {str(error)[:400]}") from error


def pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    """MLflow's spelling of a mapping."""
    return [{"key": key, "value": value} for key, value in values.items()]
