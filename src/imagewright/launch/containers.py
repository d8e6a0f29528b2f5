"""Steps of a local run in containers: which image they run, what they are told, what they may write, and when they have succeeded.

kfp's DockerRunner starts them through the Docker API, Docker's own or podman's. It takes a container that failed for one that
succeeded whenever the runtime removes it first (kubeflow/pipelines#13332), so a step counts as done when it left its record.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, DockerException, ImageNotFound
from docker.models.containers import Container
from docker.models.images import Image
from docker.types import Mount
from kfp import local
from kfp.local import docker_task_handler
from kfp.local.status import Status
from requests import RequestException

from imagewright.config import Config
from imagewright.errors import InputError, Problem
from imagewright.jobs.environment import CONTRACT
from imagewright.jobs.state import StepState
from imagewright.launch.ir import SYMBOLIC_IMAGE
from imagewright.launch.runs import RunFolder, read_json
from imagewright.storage.records import RecordError, read_record

LABEL = "imagewright.run"
CACHE = "/tmp/imagewright"  # noqa: S108 - inside the container, the image's own IMAGEWRIGHT_HOME
GONE = frozenset({404, 409})
POLL_SECONDS = 0.2
STOP_SECONDS = 12.0  # less than `local.stop` gives the runner, which waits for its containers
# What libraries read besides the contract: credentials that are no keys, and thread counts, which results depend on.
ALSO_PASSED = (
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_SESSION_TOKEN",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "MLFLOW_TRACKING_USERNAME",
    "OMP_NUM_THREADS",
)


class DockerUnavailable(InputError):
    """No Docker API answers, or it lacks the image."""


@dataclass(frozen=True)
class ContainerPlace:
    """What every container of one run has in common, fixed when the run is created.

    image: a tag made from the image's id, which no build moves. digest: that id. user: uid:gid. shared_memory: size of /dev/shm.
    sources: folders and files of external sources, mounted read-only.
    """

    image: str
    digest: str
    user: str
    shared_memory: str
    sources: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """As plain values, for the run's facts."""
        return asdict(self)


def place_of(folder: RunFolder) -> ContainerPlace:
    """What the containers of a run have in common, from its facts."""
    facts = folder.facts()["container"]
    return ContainerPlace(**{**facts, "sources": tuple(facts["sources"])})


def connect() -> docker.DockerClient:
    """A client of the Docker API that DOCKER_HOST names. Raises DockerUnavailable."""
    try:
        client = docker.from_env()
        client.ping()
    except (DockerException, RequestException) as error:
        fix = "start Docker, or podman system service --time 0 unix:///run/user/UID/podman.sock and set DOCKER_HOST to that address"
        where = os.environ.get("DOCKER_HOST", "") or "Docker's own socket"
        raise DockerUnavailable(Problem("--on docker", "needs a Docker API that answers", where, fix)) from error
    return client


def prepare(config: Config) -> ContainerPlace:
    """Looks the image up and gives it a tag made from its id. Raises DockerUnavailable, and InputError for sources at relative paths."""
    sources = tuple(source.path for source in config.data.external)
    relative = [path for path in sources if not Path(path).is_absolute()]
    if relative:
        rule = "must be absolute with --on docker"
        raise InputError([Problem("data.external.path", rule, path, str(Path(path).resolve())) for path in relative])
    name = config.docker.worker_image
    client = connect()
    try:
        image = find_image(client, name)
        digest = str(image.id)
        version = digest.removeprefix("sha256:")
        image.tag(SYMBOLIC_IMAGE, tag=version)
        image.reload()
        pinned = next(tag for tag in image.tags if tag.endswith(f"{SYMBOLIC_IMAGE}:{version}"))  # podman puts a registry in front
    except ImageNotFound as error:
        raise missing_image(name) from error
    finally:
        client.close()
    user = config.docker.user or f"{os.getuid()}:{os.getgid()}"
    return ContainerPlace(pinned, digest, user, config.docker.shared_memory, sources)


def find_image(client: docker.DockerClient, name: str) -> Image:
    """An image of this machine. podman keeps what it built under localhost/, and its Docker API looks for short names elsewhere."""
    try:
        return client.images.get(name)
    except ImageNotFound:
        return client.images.get(f"localhost/{name}")


def require_image(folder: RunFolder) -> None:
    """Refuses to continue a run whose image is gone: kfp would look for it in a registry. Raises DockerUnavailable."""
    place = place_of(folder)
    client = connect()
    try:
        client.images.get(place.image)
    except ImageNotFound as error:
        raise missing_image(place.image) from error
    finally:
        client.close()


def missing_image(name: str) -> DockerUnavailable:
    """The error for an image that this machine does not have."""
    return DockerUnavailable(Problem("docker.worker_image", "is not on this machine", name, "make images BASE=..., or pull it"))


def docker_runner(folder: RunFolder, environ: Mapping[str, str] = os.environ) -> local.DockerRunner:
    """kfp's runner, with containers that may write to /tmp, the run's folder and a cache, and nowhere else.

    They share the machine's network, because the local stack listens on loopback.
    """
    place = place_of(folder)
    docker_task_handler.DockerTaskHandler = ReceiptHandler
    for made in (folder.path / "artifacts", folder.path / "receipts", cache_folder(folder)):
        made.mkdir(parents=True, exist_ok=True)
    return local.DockerRunner(
        environment=environment(folder, place, environ),
        network_mode="host",
        user=place.user,
        mounts=mounts(folder, place, environ),
        tmpfs={"/tmp": "rw,exec,mode=1777"},  # noqa: S108
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        shm_size=place.shared_memory,
        labels={LABEL: folder.run_id},
    )


def cache_folder(folder: RunFolder) -> Path:
    """Work folders and downloaded payloads of every containerised run below one home."""
    return folder.path.parents[1] / "containers"


def environment(folder: RunFolder, place: ContainerPlace, environ: Mapping[str, str]) -> dict[str, str]:
    """The env contract as a container sees it. The commit is the image's own, which may not be this checkout's."""
    names = [name for name in (*CONTRACT, *ALSO_PASSED) if name != "IMAGEWRIGHT_GIT_COMMIT"]
    passed = {name: environ[name] for name in names if environ.get(name)}
    return {
        **passed,
        "IMAGEWRIGHT_IMAGE": place.digest,
        "IMAGEWRIGHT_RUN_FOLDER": str(folder.path),
        "IMAGEWRIGHT_WORK": f"{CACHE}/work",
    }


def mounts(folder: RunFolder, place: ContainerPlace, environ: Mapping[str, str]) -> list[Mount]:
    """The run's folder and local folders of the contract at their own paths, the cache, and external sources read-only."""
    own = [Mount(str(folder.path), str(folder.path), type="bind"), Mount(CACHE, str(cache_folder(folder)), type="bind")]
    urls = (environ.get(name, "").removeprefix("file://") for name in ("IMAGEWRIGHT_STORE_URL", "IMAGEWRIGHT_REGISTRY_URL"))
    shared = [Mount(path, path, type="bind") for path in urls if path.startswith("/") and Path(path).exists()]
    return [*own, *shared, *(Mount(path, path, type="bind", read_only=True) for path in place.sources)]


class ReceiptHandler(docker_task_handler.DockerTaskHandler):  # type: ignore[misc]  # kfp carries no types
    """Runs one step in its container and believes the record it leaves, whatever the runtime says about the exit code."""

    env_vars: dict[str, str]
    full_command: list[str]

    def run(self) -> Status:
        """Starts the container and waits for its end."""
        folder = Path(self.env_vars["IMAGEWRIGHT_RUN_FOLDER"])
        receipt = folder / "receipts" / f"{uuid.uuid4().hex}.json"
        self.env_vars = {**self.env_vars, "IMAGEWRIGHT_RECEIPT": str(receipt)}
        ended = "the container ended without a record"
        try:
            super().run()
        except (DockerException, RequestException) as error:  # the second when the engine stops answering
            ended = f"the container could not run: {error}"
        if is_record(receipt):
            return Status.SUCCESS
        say_failed(folder, self.full_command, ended)
        return Status.FAILURE


def is_record(path: Path) -> bool:
    """Whether a whole record lies there."""
    try:
        read_record(path)
    except RecordError:
        return False
    return True


def say_failed(folder: Path, command: list[str], reason: str) -> None:
    """Notes the failure of a step that could not do so itself: one that was killed, or never started."""
    job = command[command.index("--function_to_execute") + 1].replace("_", "-")
    path = folder / "steps" / f"{job}.json"
    if not path.exists() or read_json(path)["status"] != "failed":
        StepState(folder, job).write("failed", detail=f"{reason}; its output: imagewright logs {folder.name}")


def end_containers(run_id: str) -> None:
    """Waits for the containers of a run whose runner has let go of its lock, and kills those that stay. Raises DockerUnavailable."""
    client = connect()
    try:
        deadline = time.monotonic() + STOP_SECONDS
        while (left := containers_of(client, run_id)) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        for container in left:
            kill(container)
    finally:
        client.close()


def containers_of(client: docker.DockerClient, run_id: str) -> list[Container]:
    """Running containers of a run."""
    return list(client.containers.list(filters={"label": f"{LABEL}={run_id}", "status": "running"}, ignore_removed=True))


def kill(container: Container) -> None:
    """Kills a container; one that is gone already is fine."""
    try:
        container.kill()
    except APIError as error:
        if error.status_code not in GONE:
            raise
