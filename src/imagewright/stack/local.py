"""Start, stop and describe the local stack; the environment it gives is the one every local job reads."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from imagewright.errors import Problem
from imagewright.stack import health, services
from imagewright.stack.errors import StackError
from imagewright.stack.home import Home
from imagewright.stack.ports import LOOPBACK, choose_ports
from imagewright.stack.process import ProcessRecord, marked, spawn, tail, terminate
from imagewright.stack.services import BUCKET, MLFLOW, S3, Service

# Ten seconds on an idle machine; a minute was seen on one with five times more work than cores. A server that ends is noticed at once.
START_TIMEOUT_SECONDS = 180.0
# A server that runs but does not answer gets this long before it is restarted: one that is only slow may be serving a run.
UNRESPONSIVE_SECONDS = 60.0
# SeaweedFS waits for its own open streams and may never end by itself; what it wrote is with the kernel, so KILL loses nothing.
STOP_GRACE_SECONDS = 6.0
POLL_SECONDS = 0.2
MAX_ATTEMPTS = 3
LOG_LINES_IN_ERRORS = 8
NAMES = (S3, MLFLOW)

Progress = Callable[[str], None]


@dataclass(frozen=True)
class StackEnvironment:
    """A running stack: its state folder, the addresses of its servers and the environment contract of a job."""

    home: Path
    s3_url: str
    mlflow_url: str
    registry: Path
    variables: dict[str, str] = field(repr=False)


@dataclass(frozen=True)
class ServiceStatus:
    """One line of `imagewright status`. state: running, starting (alive, no proof of health), or stopped."""

    name: str
    title: str
    state: str
    url: str = ""
    pid: int | None = None
    uptime_seconds: float = 0.0
    memory_bytes: int = 0
    log: Path = Path()


class _DiedError(Exception):
    """The server ended before it was healthy, as it does when another program took one of its ports."""


def start(
    home: Path | None = None, *, progress: Progress = lambda _: None, timeout_seconds: float = START_TIMEOUT_SECONDS
) -> StackEnvironment:
    """Start what is not running and return when both servers have proved that they work; harmless when all runs already.

    timeout_seconds: limit for one server to become healthy. Raises StackError with the end of the server's log.
    """
    place = Home.of(home)
    with place.locked():
        place.prepare()
        cancelled = threading.Event()
        with ThreadPoolExecutor(max_workers=len(NAMES)) as pool:
            s3_ports, mlflow_ports = (_plan_ports(place, name) for name in NAMES)
            s3 = services.s3_service(place, s3_ports)
            mlflow = services.mlflow_service(place, mlflow_ports, s3.url)
            waits = [pool.submit(_ensure, place, service, timeout_seconds, cancelled, progress) for service in (s3, mlflow)]
            try:
                s3_ports, mlflow_ports = (wait.result() for wait in waits)
            except BaseException:
                cancelled.set()
                raise
        # When S3 had to move while it started, MLflow holds its old address.
        mlflow = services.mlflow_service(place, mlflow_ports, services.url_of(s3_ports))
        held = ProcessRecord.load(place.record(MLFLOW))
        if held is None or held.fingerprint != mlflow.fingerprint:
            _ensure(place, mlflow, timeout_seconds, threading.Event(), progress)
        return _describe(place)


def stop(home: Path | None = None, *, grace_seconds: float = STOP_GRACE_SECONDS) -> list[str]:
    """Stop both servers and return the names of those that ran; data stays. Takes at most grace_seconds + 5 s.

    Raises StackError when a process survives KILL.
    """
    place = Home.of(home)
    if not place.path.is_dir():
        return []
    with place.locked(), ThreadPoolExecutor(max_workers=len(NAMES)) as pool:
        stopped = pool.map(lambda name: _stop_service(place, name, grace_seconds), NAMES)
        return [name for name, ran in zip(NAMES, stopped, strict=True) if ran]


def environment(home: Path | None = None) -> dict[str, str]:
    """Return the environment contract of the stack in this home. Raises StackError when it was never started."""
    return _describe(Home.of(home)).variables


def status(home: Path | None = None) -> list[ServiceStatus]:
    """Describe both servers; a cheap look that writes nothing."""
    place = Home.of(home)
    return [_status_of(place, name) for name in NAMES]


def _plan_ports(home: Home, name: str) -> tuple[int, ...]:
    """The ports a live server holds, else its earlier ones when they are free, else others."""
    record = ProcessRecord.load(home.record(name))
    if record is not None and record.process() is not None:
        return record.ports
    if record is not None:
        # Orphans of a killed server may still hold its ports.
        terminate(marked(_marker(home, name)), STOP_GRACE_SECONDS)
    return choose_ports(services.num_ports(name), record.ports if record else ())


def _ensure(home: Home, service: Service, timeout_seconds: float, cancelled: threading.Event, progress: Progress) -> tuple[int, ...]:
    """Leave the service healthy and return its ports, which differ from the planned ones when those were taken."""
    record = ProcessRecord.load(home.record(service.name))
    if record is not None and record.process() is not None and record.fingerprint == service.fingerprint:
        try:
            _wait_until_healthy(service, record, UNRESPONSIVE_SECONDS, cancelled)
        except (_DiedError, TimeoutError):
            progress(f"{service.title} does not answer; restarting it")
        else:
            return service.ports
    _stop_service(home, service.name, STOP_GRACE_SECONDS)
    for attempt in range(MAX_ATTEMPTS):
        planned = service if attempt == 0 else _moved(home, service)
        progress(f"starting {planned.title} on {planned.url}")
        record = _launch(home, planned)
        try:
            _wait_until_healthy(planned, record, timeout_seconds, cancelled)
        except _DiedError:
            progress(f"{planned.title} ended while it started; trying other ports")
            _stop_service(home, service.name, STOP_GRACE_SECONDS)
            continue
        except TimeoutError as error:
            _stop_service(home, service.name, STOP_GRACE_SECONDS)
            raise _failure(home, service, f"is not healthy after {timeout_seconds:.0f} s ({error})") from error
        progress(f"{planned.title} is ready")
        return planned.ports
    raise _failure(home, service, f"ended {MAX_ATTEMPTS} times while it started")


def _moved(home: Home, service: Service) -> Service:
    ports = choose_ports(len(service.ports))
    if service.name == S3:
        return services.s3_service(home, ports)
    return services.mlflow_service(home, ports, service.environment["AWS_ENDPOINT_URL"])


def _launch(home: Home, service: Service) -> ProcessRecord:
    try:
        pid, started = spawn(service.command, service.environment, home.path, home.log(service.name), _marker(home, service.name))
        record = ProcessRecord(pid, started, service.ports, service.fingerprint)
        record.save(home.record(service.name))
    except OSError as error:
        fix = "run `imagewright doctor`"
        raise StackError(Problem(f"stack.{service.name}", f"cannot be started ({error.strerror})", service.command[0], fix)) from error
    return record


def _wait_until_healthy(service: Service, record: ProcessRecord, timeout_seconds: float, cancelled: threading.Event) -> None:
    """Return once the service's own check passes; raise _DiedError when its process ends and TimeoutError with the last reason."""
    deadline = time.monotonic() + timeout_seconds
    while not cancelled.is_set():
        if record.process() is None:
            raise _DiedError
        try:
            service.check()
        except health.UNHEALTHY as error:
            reason = str(error)[:200]
        else:
            return
        if time.monotonic() >= deadline:
            raise TimeoutError(reason)
        cancelled.wait(POLL_SECONDS)
    raise StackError(Problem(f"stack.{service.name}", "was not waited for", fix="see the other error, then run `imagewright up` again"))


def _stop_service(home: Home, name: str, grace_seconds: float) -> bool:
    """End every process of a service; True when one ran."""
    record = ProcessRecord.load(home.record(name))
    found = {process.pid: process for process in marked(_marker(home, name))}
    if record is not None and (process := record.process()) is not None:
        found[process.pid] = process
    if not terminate(list(found.values()), grace_seconds):
        received = sorted(found)
        raise StackError(
            Problem(f"stack.{name}", "has a process that does not die", received, "its disk or file system hangs; look at `dmesg`")
        )
    if record is not None:
        _remove_sockets(record)
    return bool(found)


def _remove_sockets(record: ProcessRecord) -> None:
    """SeaweedFS leaves one socket for each gRPC port in /tmp when it is killed."""
    for port in record.ports:
        for socket in Path("/tmp").glob(f"seaweedfs-*-grpc-{port}.sock"):  # noqa: S108 - the server's own fixed place
            socket.unlink(missing_ok=True)


def _marker(home: Home, name: str) -> str:
    return f"{name}:{home.path}"


def _failure(home: Home, service: Service, rule: str) -> StackError:
    end = " | ".join(line.strip()[-160:] for line in tail(home.log(service.name), LOG_LINES_IN_ERRORS))
    fix = f"read {home.log(service.name)}" + (f"; it ends: {end}" if end else "")
    return StackError(Problem(f"stack.{service.name}", rule, service.url, fix))


def _describe(home: Home) -> StackEnvironment:
    records = {name: ProcessRecord.load(home.record(name)) for name in NAMES}
    s3, mlflow = records[S3], records[MLFLOW]
    if s3 is None or mlflow is None:
        raise StackError(Problem("stack.home", "holds no local stack", str(home.path), "start one: imagewright up"))
    s3_url, mlflow_url = services.url_of(s3.ports), services.url_of(mlflow.ports)
    outside_proxy = [name for name in os.environ.get("NO_PROXY", os.environ.get("no_proxy", "")).split(",") if name]
    outside_proxy += [name for name in (LOOPBACK, "localhost") if name not in outside_proxy]
    variables = {
        "IMAGEWRIGHT_STORE_URL": f"s3://{BUCKET}/",
        "IMAGEWRIGHT_REGISTRY_URL": str(home.registry),
        "MLFLOW_TRACKING_URI": mlflow_url,
        **services.s3_variables(home, s3_url),
        "NO_PROXY": ",".join(outside_proxy),
        "no_proxy": ",".join(outside_proxy),
    }
    return StackEnvironment(home.path, s3_url, mlflow_url, home.registry, variables)


def _status_of(home: Home, name: str) -> ServiceStatus:
    title = {S3: "SeaweedFS S3", MLFLOW: "MLflow"}[name]
    record = ProcessRecord.load(home.record(name))
    process = record.process() if record else None
    if record is None or process is None:
        return ServiceStatus(name, title, "stopped", log=home.log(name))
    state = "running" if health.answers(services.url_of(record.ports)) else "starting"
    try:
        family = [process, *process.children(recursive=True)]
        memory = sum(member.memory_info().rss for member in family)
    except psutil.Error:
        memory = 0
    return ServiceStatus(
        name, title, state, services.url_of(record.ports), record.pid, time.time() - record.started, memory, home.log(name)
    )
