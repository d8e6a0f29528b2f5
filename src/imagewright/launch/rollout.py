"""Promotion -> serving: turns an HTTPRoute's weights or an InferenceService's canary share, and takes them back on failed probes."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from imagewright.config.rollout import RolloutConfig
from imagewright.errors import Problem
from imagewright.launch.cluster_api import CONFLICT, ClusterApi, ClusterError, connect, is_unknown_kind, said
from imagewright.storage.digests import URI_PREFIX
from imagewright.tracking.gate import Verdict

Tree = dict[str, Any]
GATEWAY = {"group": "gateway.networking.k8s.io", "version": "v1", "plural": "httproutes"}
KSERVE = {"group": "serving.kserve.io", "version": "v1beta1", "plural": "inferenceservices"}
PAYLOAD_FLAG = "--payload="
PROBE_SECONDS = 10.0
MAX_PROBE_BYTES = 1 << 20
MAX_CONFLICTS = 5


class Target(Protocol):
    """Servers whose canary can be given a model and a share of the requests."""

    def load(self, digest: str) -> None:
        """Starts the canary with a payload, at no requests."""

    def share(self, percent: int) -> None:
        """Gives the canary this percent of the requests."""

    def back(self) -> None:
        """Gives the stable servers all requests, whatever happened before."""

    def settle(self) -> None:
        """Ends the trial of a version that is champion now."""


@dataclass
class CanaryRollout:
    """Tries a version out in steps. say: where each step is told; wait and clock: how time passes."""

    target: Target
    config: RolloutConfig
    say: Callable[[str], None] = print
    wait: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = field(default=time.monotonic)
    tried: bool = False
    """Whether a trial is under way."""

    def try_out(self, digest: str) -> Verdict:
        """Loads the canary, raises its share step by step, probes each step; rolls back at the first step that fails.

        Whatever ends the trial, also an error or Ctrl-C, the stable servers have all requests again unless every step passed.
        """
        passed = False
        self.tried = True
        try:
            self.target.load(digest)
            reason = self.until_served(self.config.canary_url, digest)
            for percent in () if reason else self.config.steps:
                self.target.share(percent)
                self.say(f"rollout: canary at {percent} %")
                reason = self.bake(percent, digest)
                if reason:
                    break
            passed = not reason
        finally:
            if not passed:
                self.withdraw()
        return Verdict(rule="rollout", passed=passed, reason=reason or f"answered every probe at {list(self.config.steps)} %")

    def withdraw(self) -> None:
        """Gives the stable servers all requests; nothing when no trial is under way. Raises ClusterError when that is refused."""
        if self.tried:
            try:
                self.target.back()
            except ClusterError as error:
                rule = "the trial could not be taken back: the canary may still get requests"
                fix = f"take them from the canary of {self.config.release} by hand, as docs/operations.md says"
                raise ClusterError([*error.problems, Problem("rollout", rule, None, fix)]) from error
            self.tried = False
            self.say("rollout: rolled back, the stable servers have all requests")

    def settle(self, digest: str) -> None:
        """Waits for the stable servers to follow the champion, then gives them all requests; the canary keeps them when they do not."""
        reason = self.until_served(self.config.stable_url, digest) if self.config.stable_url else ""
        if reason:
            self.say(f"rollout: the canary keeps all requests: {reason}")
            return
        self.target.settle()
        self.say("rollout: done, the stable servers serve the new champion")

    def until_served(self, url: str, digest: str) -> str:
        """Empty once the servers answer with this payload; why not, after the deadline."""
        deadline = self.clock() + self.config.ready_deadline_seconds
        while reason := probe(url, digest):
            if self.clock() >= deadline:
                return f"not ready after {self.config.ready_deadline_seconds:.0f} s: {reason}"
            self.wait(self.config.probe_every_seconds)
        return ""

    def bake(self, percent: int, digest: str) -> str:
        """Probes one step until its time is over; empty when it passed, else what the last failed probe said."""
        until, failures = self.clock() + self.config.bake_seconds, 0
        while True:
            if reason := probe(self.config.canary_url, digest):
                failures += 1
                if failures > self.config.max_failed_probes:
                    return f"{failures} failed probes at {percent} %: {reason}"
            if self.clock() >= until:
                return ""
            self.wait(self.config.probe_every_seconds)


def probe(url: str, digest: str) -> str:
    """Asks a server whether it is ready with this payload; empty when it is, else why not."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/ready", timeout=PROBE_SECONDS) as answer:  # noqa: S310 - http(s) by the config's pattern
            served = json.loads(answer.read(MAX_PROBE_BYTES)).get("digest", "")
    except urllib.error.HTTPError as error:
        return f"answered {error.code}"
    except (OSError, ValueError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return "" if served == digest else f"serves {served[:12] or 'nothing'}, not {digest[:12]}"


@dataclass(frozen=True)
class RouteTarget:
    """The serving chart's `deployment` mode: `<release>-route` weighs `<release>-stable` against `<release>-canary`."""

    cluster: ClusterApi
    release: str

    def load(self, digest: str) -> None:
        """Names the payload in the canary Deployment, which rolls its pods."""
        self.share(0)
        apps, name = client.AppsV1Api(self.cluster.api), f"{self.release}-canary"
        found = self.read(f"deployment {name}", apps.read_namespaced_deployment, name, self.cluster.namespace)
        (container,) = self.cluster.api.sanitize_for_serialization(found)["spec"]["template"]["spec"]["containers"]
        changed = {"name": container["name"], "args": with_payload(container.get("args") or [], digest)}
        patch = {"spec": {"template": {"spec": {"containers": [changed]}}}}
        self.read(f"deployment {name}", apps.patch_namespaced_deployment, name, self.cluster.namespace, patch)

    def share(self, percent: int) -> None:
        """Sets both weights, with the version that was read, so that nobody else's change is lost."""
        objects, name = client.CustomObjectsApi(self.cluster.api), f"{self.release}-route"
        where = {**GATEWAY, "namespace": self.cluster.namespace, "name": name}
        weights = {f"{self.release}-stable": 100 - percent, f"{self.release}-canary": percent}
        for _ in range(MAX_CONFLICTS):
            route = self.read(f"httproute {name}", objects.get_namespaced_custom_object, **where)
            rules = route["spec"]["rules"]
            named = {backend["name"] for rule in rules for backend in rule.get("backendRefs", [])}
            if missing := sorted(set(weights) - named):
                fix = "set canary.enabled and route.enabled in the serving chart"
                raise ClusterError(Problem(f"httproute {name}", "does not name the backends of the release", ", ".join(missing), fix))
            for rule in rules:
                for backend in rule.get("backendRefs", []):
                    backend["weight"] = weights.get(backend["name"], backend.get("weight", 1))
            patch = {"metadata": {"resourceVersion": route["metadata"]["resourceVersion"]}, "spec": {"rules": rules}}
            try:
                self.cluster.call(f"httproute {name}", objects.patch_namespaced_custom_object, **where, body=patch)
            except ApiException as error:
                if error.status != CONFLICT:
                    raise absent(f"httproute {name}", error) from error
            else:
                return
        raise ClusterError(
            Problem(f"httproute {name}", f"changed under us {MAX_CONFLICTS} times", None, "stop whoever else turns its weights")
        )

    def back(self) -> None:
        """All requests to the stable servers."""
        self.share(0)

    def settle(self) -> None:
        """All requests to the stable servers, which serve the champion now."""
        self.share(0)

    def read(self, what: str, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """A call that must find its object."""
        try:
            return self.cluster.call(what, method, *arguments, **options)
        except ApiException as error:
            raise absent(what, error) from error


@dataclass
class InferenceServiceTarget:
    """The serving chart's `kserve` mode: a new revision of the predictor is the canary, the one before it keeps the other requests."""

    cluster: ClusterApi
    release: str
    before: list[str] = field(default_factory=list)
    """Arguments of the predictor before the trial."""

    def load(self, digest: str) -> None:
        """Makes a revision with the payload, at no requests."""
        container = self.container()
        self.before = list(container.get("args") or [])
        self.patch({**container, "args": with_payload(self.before, digest)}, 0)

    def share(self, percent: int) -> None:
        """The newest revision's percent."""
        self.patch(self.container(), percent)

    def back(self) -> None:
        """The arguments of before, as the newest revision, with all requests."""
        if self.before:
            self.patch({**self.container(), "args": self.before}, None)

    def settle(self) -> None:
        """The tried revision gets everything; there is no canary any more."""
        self.patch(self.container(), None)

    def container(self) -> Tree:
        """The predictor's container."""
        found = self.call("get_namespaced_custom_object")
        (container,) = found["spec"]["predictor"]["containers"]
        plain: Tree = container
        return plain

    def patch(self, container: Tree, percent: int | None) -> None:
        """Merge patch of container and canary share; None removes the share."""
        predictor = {"canaryTrafficPercent": percent, "containers": [container]}
        self.call("patch_namespaced_custom_object", body={"spec": {"predictor": predictor}})

    def call(self, method: str, **options: Any) -> Tree:
        """A call about this InferenceService."""
        objects, what = client.CustomObjectsApi(self.cluster.api), f"inferenceservice {self.release}"
        where = {**KSERVE, "namespace": self.cluster.namespace, "name": self.release}
        try:
            found: Tree = self.cluster.call(what, getattr(objects, method), **where, **options)
        except ApiException as error:
            raise absent(what, error) from error
        return found


def with_payload(arguments: list[str], digest: str) -> list[str]:
    """The server's arguments with this payload, in place of any other."""
    return [*(one for one in arguments if not one.startswith(PAYLOAD_FLAG)), f"{PAYLOAD_FLAG}{URI_PREFIX}{digest}"]


def absent(what: str, error: ApiException) -> ClusterError:
    """A 404 or 409 said for a person."""
    if is_unknown_kind(error):
        fix = "install the Gateway API or KServe (infra/k8s/README.md), or set rollout.kind to none"
        return ClusterError(Problem(what, "is of a kind this cluster does not know", None, fix))
    return ClusterError(
        Problem(what, f"the cluster answered {error.status}: {said(error)}", None, "check rollout.release and rollout.namespace")
    )


def open_rollout(config: RolloutConfig) -> CanaryRollout | None:
    """The rollout a recipe asks for; None when servers follow the champion by themselves."""
    if config.kind == "none":
        return None
    cluster = connect(config.namespace)
    target: Target = RouteTarget(cluster, config.release)
    if config.kind == "inference_service":
        target = InferenceServiceTarget(cluster, config.release)
    return CanaryRollout(target, config)
