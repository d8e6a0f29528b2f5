"""Proof that a server works: a real object written and read on S3, a real run created and read on MLflow."""

from __future__ import annotations

import io
import json
import secrets
import time
from collections.abc import Mapping
from typing import Any

import urllib3
from minio import Minio
from minio.commonconfig import ENABLED, Filter
from minio.error import MinioException
from minio.lifecycleconfig import AbortIncompleteMultipartUpload, LifecycleConfig, Rule
from urllib3.exceptions import HTTPError

from imagewright.stack.home import Credentials

TIMEOUT = urllib3.Timeout(connect=2.0, read=10.0)
MAX_ANSWER_BYTES = 1 << 20
UNFINISHED_UPLOAD_DAYS = 7
DEFAULT_EXPERIMENT = "0"

# What a server that is down, still starting or broken makes its client raise.
UNHEALTHY = (OSError, HTTPError, MinioException, ValueError, KeyError)


def check_s3(url: str, credentials: Credentials, bucket: str) -> None:
    """Make the bucket if it is missing, then put, get and delete one object. Raises one of UNHEALTHY."""
    client = Minio(
        endpoint=url.removeprefix("http://"),
        access_key=credentials.access_key,
        secret_key=credentials.secret_key,
        secure=False,
        region="us-east-1",
        http_client=urllib3.PoolManager(timeout=TIMEOUT, retries=False),
    )
    if not client.bucket_exists(bucket_name=bucket):
        client.make_bucket(bucket_name=bucket)
    # Set at every check, so that a bucket made by an earlier version has it too; the store itself cannot see unfinished uploads.
    client.set_bucket_lifecycle(bucket_name=bucket, config=unfinished_uploads_rule())
    name, content = f".health/{secrets.token_hex(8)}", secrets.token_bytes(64)
    client.put_object(bucket_name=bucket, object_name=name, data=io.BytesIO(content), length=len(content))
    answer = client.get_object(bucket_name=bucket, object_name=name)
    try:
        received = answer.read(len(content) + 1)
    finally:
        answer.close()
        answer.release_conn()
    client.remove_object(bucket_name=bucket, object_name=name)
    if received != content:
        raise ValueError(f"{bucket}/{name} came back changed")


def unfinished_uploads_rule() -> LifecycleConfig:
    """The bucket's rule that drops the parts a killed multipart upload left behind."""
    rule = Rule(
        status=ENABLED,
        rule_id="unfinished-uploads",
        rule_filter=Filter(prefix=""),
        abort_incomplete_multipart_upload=AbortIncompleteMultipartUpload(days_after_initiation=UNFINISHED_UPLOAD_DAYS),
    )
    return LifecycleConfig(rules=[rule])


def check_mlflow(url: str) -> None:
    """Create a run in the default experiment, read it back and delete it. Raises one of UNHEALTHY."""
    answer = urllib3.request("GET", f"{url}/health", timeout=TIMEOUT, retries=False)
    if answer.status != 200:
        raise ValueError(f"/health answered {answer.status}")
    try:
        run_id = _create_run(url)
    except ValueError:
        # A person may have deleted the default experiment; MLflow takes no run in a deleted one.
        _call(url, "experiments/restore", {"experiment_id": DEFAULT_EXPERIMENT})
        run_id = _create_run(url)
    found = _call(url, "runs/update", {"run_id": run_id, "status": "FINISHED"})
    _call(url, "runs/delete", {"run_id": run_id})
    if found["run_info"]["run_id"] != run_id:
        raise ValueError(f"run {run_id} came back as {found['run_info']['run_id']}")


def answers(url: str) -> bool:
    """Say whether an HTTP server answers anything but a server error at this address within two seconds."""
    try:
        answer = urllib3.request("GET", url, timeout=urllib3.Timeout(total=2.0), retries=False, redirect=False)
    except (HTTPError, OSError):
        return False
    return answer.status < 500


def _create_run(url: str) -> str:
    body = {"experiment_id": DEFAULT_EXPERIMENT, "run_name": "stack-health", "start_time": int(time.time() * 1000)}
    return str(_call(url, "runs/create", body)["run"]["info"]["run_id"])


def _call(url: str, method: str, body: Mapping[str, object]) -> dict[str, Any]:
    headers = {"Content-Type": "application/json"}
    answer = urllib3.request(
        "POST", f"{url}/api/2.0/mlflow/{method}", body=json.dumps(body), headers=headers, timeout=TIMEOUT, retries=False
    )
    if answer.status != 200:
        raise ValueError(f"{method} answered {answer.status}: {answer.data[:200].decode(errors='replace')}")
    return dict(json.loads(answer.data[:MAX_ANSWER_BYTES]))
