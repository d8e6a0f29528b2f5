"""Section `docker`: how `--on docker` runs the steps of a pipeline in containers on this machine."""

from __future__ import annotations

from pydantic import Field

from imagewright.config.base import Section


class DockerConfig(Section):
    """Containers on this machine, through the Docker API of Docker or podman (DOCKER_HOST)."""

    worker_image: str = Field(default="imagewright-worker", pattern=r"^[^\s-]\S*$")
    """Image that replaces the symbolic `imagewright-worker`: a name, a tag, a digest or an id this machine has. A run keeps its id."""
    user: str = Field(default="", pattern=r"^(\d+:\d+)?$")
    """Numeric uid:gid of the containers; empty takes the caller's own, so that what they write is the caller's."""
    shared_memory: str = Field(default="1g", pattern=r"^[1-9]\d*[mg]$")
    """Size of /dev/shm in a container (data-loader workers); the runtimes' own 64m is too small for batches of images."""
