"""Runs a compiled pipeline on Kubeflow Pipelines: the same IR as on a laptop, its image pinned by digest at submission.

`kfp.Client` can neither retry a run nor pass plugin input, so this speaks to the generated API client.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import kfp_server_api
from kfp_server_api.exceptions import ApiException
from urllib3.exceptions import HTTPError

from imagewright.config import Config
from imagewright.config.kubeflow import KubeflowConfig
from imagewright.config.packed import pack_config
from imagewright.errors import InputError, Problem
from imagewright.launch.cluster_api import retry_after
from imagewright.launch.inputs import run_parameters
from imagewright.launch.ir import PipelineIR, pin_images
from imagewright.launch.schedule import Concurrency
from imagewright.storage.records import Record

FINISHED = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"})
MAX_TOKEN_BYTES = 64 << 10
BAD_REQUEST, NOT_FOUND, CONFLICT, THROTTLED = 400, 404, 409, 429
AWAY = frozenset({502, 503, 504})
PLUGINS_UNKNOWN = re.compile(r'unknown field "?plugins_input')
LOOKS = re.compile(r"_(get|list)_")
MAX_TRIES = 5
MAX_WAIT_SECONDS = 30.0
PLUGIN_FAILED = "PLUGIN_FAILED"
MAX_TRACKING_CHARS = 300

Answer = TypeVar("Answer")


class KubeflowError(InputError):
    """A cluster that cannot be reached, refuses, or lacks something. status: the HTTP status of a refusal, else 0."""

    status: int = 0


@dataclass(frozen=True)
class PendingTask:
    """A task whose pod no node has taken yet. pod: empty where the server does not name it."""

    task_id: str
    name: str
    pod: str = ""


@dataclass(frozen=True)
class RemoteRun:
    """State of a run on the cluster.

    tasks: (job, state) in the order the server names them. tracking: the run that the MLflow plugin opened, or why it could not.
    """

    run_id: str
    name: str
    state: str
    error: str
    tasks: tuple[tuple[str, str], ...]
    pending: tuple[PendingTask, ...] = ()
    tracking: str = ""

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in FINISHED


class Kubeflow:
    """A small client: submit, look, retry, terminate."""

    def __init__(self, config: KubeflowConfig, wait: Callable[[float], None] = time.sleep) -> None:
        """wait: how pauses are made. Raises KubeflowError when no server is configured."""
        if not config.url:
            raise KubeflowError(Problem("kubeflow.url", "is required for --on kfp", None, "--set kubeflow.url=http://localhost:8888"))
        self.config, self.wait = config, wait
        settings = kfp_server_api.Configuration(host=config.url.rstrip("/"))
        settings.retries = False  # pauses are ours, and bounded
        if config.ca_file:
            settings.ssl_ca_cert = config.ca_file
        if config.token_file:
            settings.api_key_prefix["authorization"] = "Bearer"
            settings.refresh_api_key_hook = self.read_token
            self.read_token(settings)
        client = kfp_server_api.ApiClient(settings)
        self.pipelines = kfp_server_api.PipelineServiceApi(client)
        self.uploads = kfp_server_api.PipelineUploadServiceApi(client)
        self.runs = kfp_server_api.RunServiceApi(client)
        self.recurring = kfp_server_api.RecurringRunServiceApi(client)
        self.experiments = kfp_server_api.ExperimentServiceApi(client)

    def read_token(self, settings: Any) -> None:
        """Puts the current token into the client's settings."""
        try:
            with Path(self.config.token_file).open("rb") as file:
                settings.api_key["authorization"] = file.read(MAX_TOKEN_BYTES).decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise KubeflowError(Problem("kubeflow.token_file", f"cannot be read: {error}", self.config.token_file)) from error

    def call(self, method: Callable[..., Answer], *arguments: Any, **options: Any) -> Answer:
        """One call with the configured timeout; every failure becomes a KubeflowError that says what to do.

        A server that throttles is waited for; so is one that is away, when the call only looks: a run outlives its server's restart.
        """
        only_looks = LOOKS.search(method.__name__) is not None
        pause = 1.0
        for attempt in range(MAX_TRIES):
            last = attempt == MAX_TRIES - 1
            try:
                return method(*arguments, _request_timeout=self.config.timeout_seconds, **options)
            except ApiException as error:
                if last or not (error.status == THROTTLED or (only_looks and error.status in AWAY)):
                    raise refused(error, self.config) from error
                self.wait(min(retry_after(error, pause), MAX_WAIT_SECONDS))
            except (HTTPError, OSError) as error:
                if last or not only_looks:
                    rule = f"does not answer: {type(getattr(error, 'reason', None) or error).__name__}"
                    fix = "check the address, or: kubectl port-forward -n kubeflow svc/ml-pipeline 8888"
                    raise KubeflowError(Problem("kubeflow.url", rule, self.config.url, fix)) from error
                self.wait(pause)
            pause *= 2
        raise AssertionError("the last try returns or raises")

    def submit(self, pipeline: PipelineIR, config: Config, name: str, version: str, inputs: Mapping[str, Record] | None = None) -> str:
        """Creates a run and returns its id. `version`, a git commit, names the pipeline version; an equal one is used again."""
        run = kfp_server_api.V2beta1Run(display_name=name, **self.what_to_run(pipeline, config, version, inputs))
        return str(self.create(self.runs.run_service_create_run, run).run_id)

    def schedule(
        self,
        pipeline: PipelineIR,
        config: Config,
        name: str,
        version: str,
        cron: str,
        concurrency: Concurrency,
        inputs: Mapping[str, Record] | None = None,
    ) -> str:
        """Creates a recurring run with one run at a time and returns its id. Raises KubeflowError for `replace`, which KFP does not have.

        queue makes up for occasions that passed while a run went on; refuse drops them.
        """
        if concurrency is Concurrency.replace:
            fix = "--concurrency queue or refuse, or --on local"
            raise KubeflowError(Problem("--concurrency", "cannot be replace on Kubeflow Pipelines", concurrency.value, fix))
        seconds_first = f"0 {cron}"  # KFP's cron has a field for seconds
        recurring = kfp_server_api.V2beta1RecurringRun(
            display_name=name,
            **self.what_to_run(pipeline, config, version, inputs),
            namespace=self.config.namespace or None,
            trigger=kfp_server_api.V2beta1Trigger(cron_schedule=kfp_server_api.V2beta1CronSchedule(cron=seconds_first)),
            max_concurrency="1",
            no_catchup=concurrency is Concurrency.refuse,
            mode="ENABLE",
        )
        return str(self.create(self.recurring.recurring_run_service_create_recurring_run, recurring).recurring_run_id)

    def create(self, method: Callable[..., Answer], run: Any) -> Answer:
        """Creates a run with input for the server's MLflow plugin; without it on a server whose API does not know plugins yet."""
        try:
            return self.call(method, run)
        except KubeflowError as error:
            if error.status != BAD_REQUEST or PLUGINS_UNKNOWN.search(str(error)) is None:
                raise
        run.plugins_input = None
        return self.call(method, run)

    def what_to_run(self, pipeline: PipelineIR, config: Config, version: str, inputs: Mapping[str, Record] | None) -> dict[str, Any]:
        """What a run and a recurring run have in common: experiment, pipeline version with pinned images, parameters, account."""
        pipeline_id, version_id = self.ensure_version(pin_images(pipeline, self.config.worker_image), version)
        parameters = run_parameters(config, inputs)
        if config.placement.score_slices > 1:
            parameters["config"] = pack_config(parameters["config"])
        return {
            "experiment_id": self.ensure_experiment(),
            "pipeline_version_reference": kfp_server_api.V2beta1PipelineVersionReference(
                pipeline_id=pipeline_id, pipeline_version_id=version_id
            ),
            "runtime_config": kfp_server_api.V2beta1RuntimeConfig(parameters=parameters),
            "service_account": self.config.service_account or None,
            "plugins_input": {"mlflow": self.mlflow_input()},
        }

    def mlflow_input(self) -> dict[str, Any]:
        """What the MLflow plugin is told. It tracks every run once an administrator has enabled it, unless the run opts out.

        Source: kubeflow/pipelines, proposal 12862; fields it does not know are refused, so only what is meant is sent.
        """
        if not self.config.mlflow_experiment:
            return {"disabled": True}
        return {"experiment_name": self.config.mlflow_experiment}

    def ensure_version(self, pipeline: PipelineIR, version: str) -> tuple[str, str]:
        """Ids of the pipeline and of the version with this name; uploads what is missing."""
        options = {"namespace": self.config.namespace} if self.config.namespace else {}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pipeline.yaml"
            path.write_text(pipeline.to_yaml(), encoding="utf-8")
            try:
                found = self.call(self.pipelines.pipeline_service_get_pipeline_by_name, pipeline.name, **options)
            except KubeflowError as error:
                if error.status != NOT_FOUND:
                    raise
                found = self.call(self.uploads.upload_pipeline, str(path), name=pipeline.name, **options)
            pipeline_id = str(found.pipeline_id)
            for existing in self.versions(pipeline_id):
                if existing.display_name == version:
                    return pipeline_id, str(existing.pipeline_version_id)
            created = self.call(self.uploads.upload_pipeline_version, str(path), name=version, pipelineid=pipeline_id)
            return pipeline_id, str(created.pipeline_version_id)

    def versions(self, pipeline_id: str) -> list[Any]:
        """Every version of a pipeline, page by page."""
        found: list[Any] = []
        token = ""
        while True:
            page = self.call(self.pipelines.pipeline_service_list_pipeline_versions, pipeline_id, page_token=token, page_size=100)
            found.extend(page.pipeline_versions or [])
            token = page.next_page_token or ""
            if not token:
                return found

    def ensure_experiment(self) -> str:
        """Id of the configured experiment, created when it is missing."""
        options = {"namespace": self.config.namespace} if self.config.namespace else {}
        predicate = {"key": "display_name", "operation": "EQUALS", "string_value": self.config.experiment}
        page = self.call(self.experiments.experiment_service_list_experiments, filter=json.dumps({"predicates": [predicate]}), **options)
        for experiment in page.experiments or []:
            if experiment.display_name == self.config.experiment:
                return str(experiment.experiment_id)
        made = kfp_server_api.V2beta1Experiment(display_name=self.config.experiment, namespace=self.config.namespace or None)
        return str(self.call(self.experiments.experiment_service_create_experiment, made).experiment_id)

    def look(self, run_id: str) -> RemoteRun:
        """Current state of a run."""
        run = self.call(self.runs.run_service_get_run, run_id)
        details = run.run_details.task_details if run.run_details and run.run_details.task_details else []
        tasks = tuple((str(task.display_name), str(task.state)) for task in details if task.display_name)
        error = str(run.error.message) if run.error and run.error.message else ""
        waiting = [task for task in details if str(task.state) == "PENDING"]
        pending = tuple(PendingTask(str(task.task_id), str(task.display_name), str(task.pod_name or "")) for task in waiting)
        return RemoteRun(str(run.run_id), str(run.display_name), str(run.state), error, tasks, pending, tracking_of(run.plugins_output))

    def retry(self, run_id: str) -> None:
        """Runs the failed tasks of a run again; finished jobs are found by their records."""
        self.call(self.runs.run_service_retry_run, run_id)

    def terminate(self, run_id: str) -> None:
        """Ends a run."""
        self.call(self.runs.run_service_terminate_run, run_id)


def tracking_of(outputs: Mapping[str, Any] | None) -> str:
    """What the MLflow plugin reports: the address of its run, what went wrong, or nothing when the server has no plugin."""
    output = (outputs or {}).get("mlflow")
    if output is None:
        return ""
    if str(output.state) == PLUGIN_FAILED:
        return f"not tracked: {output.state_message or 'the plugin gave no reason'}"[:MAX_TRACKING_CHARS]
    entries = {name: entry.value for name, entry in (output.entries or {}).items()}
    return str(entries.get("run_url") or entries.get("root_run_id") or "")[:MAX_TRACKING_CHARS]


def refused(error: ApiException, config: KubeflowConfig) -> KubeflowError:
    """What an HTTP error of the server means for a person. The server's own words are kept short and never hold a token."""
    detail = str(error.reason or "")
    try:
        detail = str(json.loads(error.body or "{}").get("message") or json.loads(error.body or "{}").get("error") or detail)
    except (ValueError, AttributeError):
        detail = detail or "no explanation"
    fixes = {
        401: "give a valid token in kubeflow.token_file",
        403: f"the account needs the right to do this in namespace {config.namespace or 'kubeflow'}",
        NOT_FOUND: "check the id, and that the address is the API server's",
        CONFLICT: "take another name",
        THROTTLED: "the server throttles; try again later",
    }
    fix = fixes.get(error.status, "see the server's log")
    refusal = KubeflowError(Problem("kubeflow", f"answered {error.status}: {detail[:300]}", config.url, fix))
    refusal.status = int(error.status or 0)
    return refusal
