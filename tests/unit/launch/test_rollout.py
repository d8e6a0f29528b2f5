"""A promotion reaches the servers: real probes against real servers, the unmodified Kubernetes client against a real HTTP server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fixtures.kube_server import KubeServer, kube_server
from helm.charts import manifests

from imagewright.config.rollout import RolloutConfig
from imagewright.launch.cluster_api import ClusterApi, ClusterError, connect
from imagewright.launch.rollout import CanaryRollout, InferenceServiceTarget, RouteTarget, Target, open_rollout

GATEWAY, KSERVE = "gateway.networking.k8s.io", "serving.kserve.io"
NEW, OLD = "a" * 64, "b" * 64


class Server(ThreadingHTTPServer):
    """An image server as a probe sees it."""

    def __init__(self, digest: str) -> None:
        super().__init__(("127.0.0.1", 0), Ready)
        self.digest, self.status, self.num_probes = digest, 200, 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Ready(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self.server.num_probes += 1
        content = json.dumps({"digest": self.server.digest}).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def canary() -> Iterator[Server]:
    server = Server(NEW)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[KubeServer, ClusterApi]]:
    """The serving chart's own objects on a server."""
    with kube_server(GATEWAY, KSERVE, "apps") as server:
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path)))
        for case, kind, group, plural in (
            ("canary", "HTTPRoute", GATEWAY, "httproutes"),
            ("canary", "Deployment", "apps", "deployments"),
            ("kserve", "InferenceService", KSERVE, "inferenceservices"),
        ):
            for thing in manifests("imagewright-serving", case):
                if thing["kind"] == kind:
                    server.put(group, plural, thing)
        yield server, connect()


RELEASE = "iw-serving"


def weights(server: KubeServer) -> dict[str, int]:
    (rule,) = server.objects[GATEWAY, "httproutes", f"{RELEASE}-route"]["spec"]["rules"]
    return {backend["name"].removeprefix(f"{RELEASE}-"): backend["weight"] for backend in rule["backendRefs"]}


def predictor(server: KubeServer) -> dict[str, Any]:
    return server.objects[KSERVE, "inferenceservices", RELEASE]["spec"]["predictor"]


def rollout(target: Target, canary: Server, say: Callable[[str], None], **changes: Any) -> CanaryRollout:
    settings = {
        "kind": "http_route",
        "release": RELEASE,
        "canary_url": canary.url,
        "stable_url": canary.url,
        "bake_seconds": 20.0,
        **changes,
    }
    now = [0.0]

    def wait(seconds: float) -> None:
        now[0] += seconds

    return CanaryRollout(target, RolloutConfig.model_validate_json(json.dumps(settings)), say, wait, lambda: now[0])


def test_the_canary_gets_more_and_more_and_then_the_stable_servers_take_over(
    cluster: tuple[KubeServer, ClusterApi], canary: Server
) -> None:
    server, api = cluster
    seen: list[dict[str, int]] = []
    trial = rollout(RouteTarget(api, RELEASE), canary, lambda line: seen.append(weights(server)))
    verdict = trial.try_out(NEW)
    assert verdict.passed
    assert [one["canary"] for one in seen] == [5, 25, 50, 100]
    assert all(sum(one.values()) == 100 for one in seen)
    assert canary.num_probes == 1 + 4 * 5
    args = server.objects["apps", "deployments", f"{RELEASE}-canary"]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert [one for one in args if one.startswith("--payload=")] == [f"--payload=imagewright://sha256/{NEW}"]
    trial.settle(NEW)
    assert weights(server) == {"stable": 100, "canary": 0}


@pytest.mark.parametrize(("allowed", "passes"), [(0, False), (1, True)])
def test_a_failed_probe_rolls_back_unless_it_is_put_up_with(
    cluster: tuple[KubeServer, ClusterApi], canary: Server, allowed: int, passes: bool
) -> None:
    server, api = cluster

    def fail_once(line: str) -> None:
        if "25 %" in line:
            canary.status = 500
        elif "50 %" in line:
            canary.status = 200

    trial = rollout(RouteTarget(api, RELEASE), canary, fail_once, max_failed_probes=allowed, bake_seconds=0.0)
    verdict = trial.try_out(NEW)
    assert verdict.passed is passes
    assert weights(server)["canary"] == (100 if passes else 0)
    if not passes:
        assert verdict.reason == "1 failed probes at 25 %: answered 500"


def test_a_canary_that_never_gets_ready_gets_no_request(cluster: tuple[KubeServer, ClusterApi], canary: Server) -> None:
    server, api = cluster
    canary.digest = OLD
    verdict = rollout(RouteTarget(api, RELEASE), canary, lambda line: None, ready_deadline_seconds=30.0).try_out(NEW)
    assert not verdict.passed
    assert "not ready after 30 s: serves bbbbbbbbbbbb, not aaaaaaaaaaaa" in verdict.reason
    assert weights(server) == {"stable": 100, "canary": 0}


def test_an_interrupted_trial_is_taken_back(cluster: tuple[KubeServer, ClusterApi], canary: Server) -> None:
    server, api = cluster

    def interrupt(line: str) -> None:
        if "25 %" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rollout(RouteTarget(api, RELEASE), canary, interrupt).try_out(NEW)
    assert weights(server) == {"stable": 100, "canary": 0}


def test_stable_servers_that_do_not_follow_leave_the_canary_in_charge(cluster: tuple[KubeServer, ClusterApi], canary: Server) -> None:
    server, api = cluster
    said: list[str] = []
    trial = rollout(RouteTarget(api, RELEASE), canary, said.append, bake_seconds=0.0)
    assert trial.try_out(NEW).passed
    canary.digest = OLD
    trial.settle(NEW)
    assert weights(server)["canary"] == 100
    assert "the canary keeps all requests" in said[-1]


def test_somebody_elses_change_of_the_route_is_kept(cluster: tuple[KubeServer, ClusterApi]) -> None:
    server, api = cluster
    route = server.objects[GATEWAY, "httproutes", f"{RELEASE}-route"]
    server.update(GATEWAY, "httproutes", f"{RELEASE}-route", spec={**route["spec"], "hostnames": ["new.example"]})
    RouteTarget(api, RELEASE).share(25)
    assert server.objects[GATEWAY, "httproutes", f"{RELEASE}-route"]["spec"]["hostnames"] == ["new.example"]


@pytest.mark.parametrize("ready", [True, False])
def test_an_inference_service_goes_the_same_way(cluster: tuple[KubeServer, ClusterApi], canary: Server, ready: bool) -> None:
    server, api = cluster
    before = predictor(server)["containers"]
    shares: list[int] = []

    def look(line: str) -> None:
        shares.append(predictor(server).get("canaryTrafficPercent", -1))
        if "50 %" in line and not ready:
            canary.status = 503

    trial = rollout(InferenceServiceTarget(api, RELEASE), canary, look, kind="inference_service", stable_url="")
    assert trial.try_out(NEW).passed is ready
    assert shares[:3] == [5, 25, 50]
    if ready:
        trial.settle(NEW)
        assert f"--payload=imagewright://sha256/{NEW}" in predictor(server)["containers"][0]["args"]
    else:
        assert predictor(server)["containers"] == before
    assert "canaryTrafficPercent" not in predictor(server)


def test_a_cluster_without_the_gateway_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with kube_server() as bare:
        monkeypatch.setenv("KUBECONFIG", str(bare.kubeconfig(tmp_path)))
        with pytest.raises(ClusterError, match="kind this cluster does not know"):
            RouteTarget(connect(), RELEASE).share(5)


def test_a_throttled_rollout_waits_and_goes_on(cluster: tuple[KubeServer, ClusterApi], canary: Server) -> None:
    server, api = cluster
    pauses: list[float] = []
    server.throttle = 3
    verdict = rollout(RouteTarget(replace(api, wait=pauses.append), RELEASE), canary, print).try_out(NEW)
    assert verdict.passed
    assert pauses == [7.0] * 3


def test_a_trial_that_cannot_be_taken_back_says_who_still_gets_requests(cluster: tuple[KubeServer, ClusterApi], canary: Server) -> None:
    server, api = cluster

    def say(line: str) -> None:
        server.token = "renewed"

    with pytest.raises(ClusterError, match=r"(?s)the token is not accepted.*the canary may still get requests"):
        rollout(RouteTarget(api, RELEASE), canary, say).try_out(NEW)
    assert weights(server) == {"stable": 95, "canary": 5}


@pytest.mark.parametrize("resource", ["httproutes", "deployments"])
def test_an_account_that_may_not_roll_out_is_told_and_no_request_moves(
    cluster: tuple[KubeServer, ClusterApi], canary: Server, resource: str
) -> None:
    server, api = cluster
    server.forbidden = {("patch", resource)}
    before = weights(server)
    with pytest.raises(ClusterError, match=rf'cannot patch resource "{resource}".*launcher account'):
        rollout(RouteTarget(api, RELEASE), canary, print).try_out(NEW)
    assert weights(server) == (before if resource == "httproutes" else {"stable": 100, "canary": 0})


def test_a_release_without_a_canary_says_what_to_set(cluster: tuple[KubeServer, ClusterApi]) -> None:
    server, api = cluster
    route = server.objects[GATEWAY, "httproutes", f"{RELEASE}-route"]
    (rule,) = route["spec"]["rules"]
    spec = {**route["spec"], "rules": [{**rule, "backendRefs": rule["backendRefs"][:1]}]}
    server.update(GATEWAY, "httproutes", f"{RELEASE}-route", spec=spec)
    with pytest.raises(ClusterError, match=r"does not name the backends.*canary\.enabled"):
        RouteTarget(api, RELEASE).share(5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"release": ""}, "needs release"),
        ({"canary_url": ""}, "needs canary_url"),
        ({"stable_url": ""}, "needs stable_url"),
        ({"steps": [5, 50]}, "rise from at least 1 to 100"),
        ({"steps": [50, 5, 100]}, "rise from at least 1 to 100"),
        ({"steps": [0, 100]}, "rise from at least 1 to 100"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], message: str) -> None:
    settings = {"kind": "http_route", "release": "r", "canary_url": "http://c", "stable_url": "http://s", **changes}
    with pytest.raises(ValueError, match=message):
        RolloutConfig.model_validate_json(json.dumps(settings))


def test_no_rollout_needs_no_cluster() -> None:
    assert open_rollout(RolloutConfig()) is None
