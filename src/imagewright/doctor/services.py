"""Checks of the services that jobs reach through the env contract: store, data registry, tracking."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

from imagewright.doctor.finding import Finding, State
from imagewright.errors import InputError

STORE_VARIABLE = "IMAGEWRIGHT_STORE_URL"
REGISTRY_VARIABLE = "IMAGEWRIGHT_REGISTRY_URL"
TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"
START_STACK = "imagewright up starts a local one, or set {variable}"
GIT_SECONDS = 20
REQUEST_SECONDS = 10.0
MAX_ANSWER_BYTES = 1 << 20


def job_environment(home: Path | None, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment that jobs would get: the caller's own when it names a store, else that of a running local stack."""
    if environment.get(STORE_VARIABLE):
        return dict(environment)
    from imagewright import stack

    if any(one.state == "stopped" for one in stack.status(home)):
        return dict(environment)
    return {**environment, **stack.environment(home)}


def check_store(environment: Mapping[str, str]) -> Finding:
    """Write, read and delete one small object."""
    url = environment.get(STORE_VARIABLE, "")
    if not url:
        return Finding("store", State.skipped, "not set up", START_STACK.format(variable=STORE_VARIABLE))
    from imagewright.storage import open_store

    try:
        store = open_store(url, environment)
        name, content = f"doctor/{secrets.token_hex(8)}", secrets.token_bytes(64)
        store.put_named(name, content)
        found = store.get_named(name)
        store.delete_named(name)
    except InputError as error:
        return Finding("store", State.failed, str(error.problems[0]), error.problems[0].fix or "correct the address or the credentials")
    if found is None or found.data != content:
        return Finding(
            "store", State.failed, f"{url} returned another object than was written", "use a store with read-after-write consistency"
        )
    return Finding("store", State.ok, f"{url} can be written, read and deleted from")


def check_registry(environment: Mapping[str, str]) -> Finding:
    """Ask git for the references of the data registry."""
    url = environment.get(REGISTRY_VARIABLE, "")
    if not url:
        return Finding("registry", State.skipped, "not set up", START_STACK.format(variable=REGISTRY_VARIABLE))
    # Without these git would wait for a password or a host key at the terminal.
    quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": environment.get("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")}
    command = ["git", "ls-remote", "--quiet", "--", url]
    try:
        answer = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            env={**environment, **quiet},
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except FileNotFoundError:
        return Finding("registry", State.failed, "git is not installed", "install git")
    except subprocess.TimeoutExpired:
        return Finding("registry", State.failed, f"{url} did not answer within {GIT_SECONDS} s", "check the address and the network")
    if answer.returncode != 0:
        return Finding(
            "registry", State.failed, f"{url}: {answer.stderr.strip()}", f"correct {REGISTRY_VARIABLE} or git's credentials for it"
        )
    tags = sum(1 for line in answer.stdout.splitlines() if "refs/tags/" in line and not line.endswith("^{}"))
    return Finding("registry", State.ok, f"{url}, {tags} tags")


def check_tracking(environment: Mapping[str, str]) -> Finding:
    """Ask the tracking server for its version and for one experiment, which reads its database; writes nothing."""
    url = environment.get(TRACKING_VARIABLE, "").rstrip("/")
    if not url:
        return Finding("tracking", State.skipped, "not set up", START_STACK.format(variable=TRACKING_VARIABLE))
    if urlsplit(url).scheme not in ("http", "https"):
        return Finding(
            "tracking", State.failed, f"{url} is not a server", f"set {TRACKING_VARIABLE} to the http(s) address of an MLflow server"
        )
    import urllib3

    headers = _tracking_headers(environment)
    timeout = urllib3.Timeout(connect=5.0, read=REQUEST_SECONDS)
    try:
        shown = urllib3.request("GET", f"{url}/version", headers=headers, timeout=timeout, retries=False)
        method = f"{url}/api/2.0/mlflow/experiments/search"
        found = urllib3.request("POST", method, json={"max_results": 1}, headers=headers, timeout=timeout, retries=False)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        return Finding("tracking", State.failed, f"{url}: {error}", "start the server (imagewright up) or correct the address")
    if found.status in (401, 403):
        fix = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN; or the server's --allowed-hosts"
        return Finding("tracking", State.failed, f"{url} answered {found.status}", fix)
    if found.status != 200 or shown.status != 200:
        return Finding(
            "tracking", State.failed, f"{url} answered {max(found.status, shown.status)}", "read the server's log (imagewright logs mlflow)"
        )
    json.loads(found.data[:MAX_ANSWER_BYTES])
    return _compare_versions(url, shown.data[:40].decode("ascii", errors="replace").strip())


def _compare_versions(url: str, server: str) -> Finding:
    try:
        client = version("mlflow")
    except PackageNotFoundError:
        return Finding("tracking", State.warning, f"{url}, MLflow {server}; no client here", "pip install 'imagewright[control]'")
    if server.split(".")[:2] != client.split(".")[:2]:
        return Finding("tracking", State.warning, f"{url}, server {server}, client {client}", "bring both to the same minor version")
    return Finding("tracking", State.ok, f"{url}, MLflow {server}")


def _tracking_headers(environment: Mapping[str, str]) -> dict[str, str]:
    import urllib3

    if token := environment.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    if user := environment.get("MLFLOW_TRACKING_USERNAME"):
        return dict(urllib3.make_headers(basic_auth=f"{user}:{environment.get('MLFLOW_TRACKING_PASSWORD', '')}"))
    return {}
