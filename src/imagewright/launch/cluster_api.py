"""Speaks to a Kubernetes API server: connects, waits out throttling and short failures, and says in words what a refusal means."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError

from imagewright.errors import InputError, Problem

Answer = TypeVar("Answer")
Tree = dict[str, Any]
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
MAX_NAMESPACE_BYTES = 256
UNAUTHORISED, FORBIDDEN = 401, 403
NOT_FOUND, CONFLICT, GONE, THROTTLED = 404, 409, 410, 429
PASSING = frozenset({THROTTLED, 500, 502, 503, 504})
# A damaged kubeconfig makes the client fail in all of these ways.
BROKEN_SETTINGS = (ConfigException, OSError, yaml.YAMLError, TypeError, AttributeError, KeyError)
MAX_TRIES = 8
MAX_WAIT_SECONDS = 30.0
REQUEST_SECONDS = 60.0


class ClusterError(InputError):
    """A cluster that cannot be reached, refuses, or lacks something. status: the HTTP status of a refusal, else 0."""

    status: int = 0


@dataclass(frozen=True)
class ClusterApi:
    """One API server and the namespace we act in. `wait` is how pauses are made; `max_tries` is for each request."""

    api: client.ApiClient
    namespace: str
    wait: Callable[[float], None] = field(default=time.sleep)
    max_tries: int = MAX_TRIES

    def call(self, what: str, method: Callable[..., Answer], *arguments: Any, **options: Any) -> Answer:
        """One request, tried again while the server throttles or is away; `what` names it in errors.

        Raises ApiException for 404, 409 and 410, which have a meaning for the caller, and ClusterError for everything else.
        """
        options.setdefault("_request_timeout", REQUEST_SECONDS)
        pause = 1.0
        for attempt in range(self.max_tries):
            last = attempt == self.max_tries - 1
            try:
                return method(*arguments, **options)
            except ApiException as error:
                if error.status in {NOT_FOUND, CONFLICT, GONE}:
                    raise
                if not error.status:  # the client's way to say that TLS failed
                    raise unreachable(self.api.configuration.host, error) from error
                if error.status not in PASSING or last:
                    raise refused(what, self.namespace, error) from error
                self.wait(min(retry_after(error, pause), MAX_WAIT_SECONDS))
            except (HTTPError, OSError) as error:
                if last:
                    raise unreachable(self.api.configuration.host, error) from error
                self.wait(min(pause, MAX_WAIT_SECONDS))
            pause *= 2
        raise AssertionError("the last try returns or raises")


def connect(namespace: str = "") -> ClusterApi:
    """The cluster this pod runs in, else the one KUBECONFIG names. Raises ClusterError when there is none."""
    settings = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=settings)
    except ConfigException:
        try:
            config.load_kube_config(kubeconfig(), client_configuration=settings)
        except BROKEN_SETTINGS as error:
            fix = "run inside the cluster with a service account, or set KUBECONFIG"
            raise ClusterError(Problem("cluster", f"none is configured: {error}", None, fix)) from error
    settings.retries = False  # pauses are ours, so that they end when a run is cancelled
    return ClusterApi(client.ApiClient(settings), namespace or own_namespace())


def kubeconfig() -> str | None:
    """KUBECONFIG as it is now; the client itself reads it only when it is imported."""
    return os.environ.get("KUBECONFIG") or None


def own_namespace() -> str:
    """Namespace of this pod; that of the current context outside a cluster."""
    if NAMESPACE_FILE.exists():
        with NAMESPACE_FILE.open("rb") as file:
            return file.read(MAX_NAMESPACE_BYTES).decode().strip()
    try:
        _, active = config.list_kube_config_contexts(kubeconfig())
    except BROKEN_SETTINGS:
        return "default"
    return str(active["context"].get("namespace") or "default")


def retry_after(error: ApiException, otherwise: float) -> float:
    """Seconds the server asks to wait; ours where it asks for none, or for something that is no number of seconds."""
    try:
        asked = float((error.headers or {}).get("Retry-After", otherwise))
    except ValueError:
        return otherwise
    return max(0.0, asked) if math.isfinite(asked) else otherwise


def said(error: ApiException) -> str:
    """The server's own words, kept short."""
    try:
        return str(json.loads(error.body or "{}").get("message") or error.reason)[:500]
    except (ValueError, AttributeError):
        return str(error.body or error.reason or "no explanation")[:500].strip()


def refused(what: str, namespace: str, error: ApiException) -> ClusterError:
    """What an HTTP error means for a person."""
    words = said(error)
    fixes = {
        UNAUTHORISED: "the token is not accepted: renew it, or check the pod's service account",
        FORBIDDEN: f"the account may not do this in namespace {namespace}: use the platform chart's launcher account",
        422: "the cluster runs another version of this API: infra/k8s/README.md names the supported ones",
        THROTTLED: "the server kept throttling; try again later",
    }
    fix = fixes.get(error.status, "see the API server's log")
    if "violates PodSecurity" in words:
        fix = f"namespace {namespace} admits restricted pods only: use the platform chart's runtime"
    elif "quota" in words:
        fix = f"namespace {namespace} has no quota for this: ask for more, or take fewer nodes"
    refusal = ClusterError(Problem(what, f"the cluster answered {error.status}: {words}", namespace, fix))
    refusal.status = int(error.status)
    return refusal


def unreachable(host: str, error: Exception) -> ClusterError:
    """A server that does not answer. urllib3 wraps what happened in what it did about it; the client makes words of it."""
    reason = getattr(error, "reason", None) or error
    said = " ".join(reason.split())[:200] if isinstance(reason, str) else type(reason).__name__
    return ClusterError(Problem("cluster", f"does not answer: {said}", host, "check the address, its certificate and the network"))


def is_unknown_kind(error: ApiException) -> bool:
    """True when the server does not know the resource at all: its answer is then no Status object that names one."""
    if error.status != NOT_FOUND:
        return False
    try:
        details = json.loads(error.body or "null")
    except ValueError:
        return True
    return not (isinstance(details, dict) and (details.get("details") or {}).get("name"))
