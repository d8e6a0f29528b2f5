"""Section `kubeflow`: how `--on kfp` reaches a Kubeflow Pipelines server and which images its steps run."""

from __future__ import annotations

from pydantic import Field, model_validator

from imagewright.config.base import Section

DIGEST_PATTERN = r"^([^\s@]+@sha256:[0-9a-f]{64})?$"


class KubeflowConfig(Section):
    """A Kubeflow Pipelines server. Nothing here is secret: the token is read from a file or an environment variable when needed."""

    url: str = Field(default="", pattern=r"^(https?://\S+)?$")
    """Address of the API server, for example http://localhost:8888; empty when no cluster is configured."""
    namespace: str = Field(default="", pattern=r"^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?$")
    """Profile namespace in a multi-user installation; empty in a single-user one."""
    experiment: str = Field(default="imagewright", min_length=1, max_length=128)
    """Kubeflow experiment of the runs."""
    mlflow_experiment: str = Field(default="imagewright", max_length=256)
    """MLflow experiment of the runs that the server's MLflow plugin opens, where it has one; empty opts out of the plugin."""
    service_account: str = ""
    """Service account of the step pods; empty takes the installation's default."""
    token_file: str = ""
    """File with the bearer token, read again for every call because projected tokens rotate."""
    ca_file: str = ""
    """Certificate authority of an https server with a private certificate."""
    worker_image: str = Field(default="", pattern=DIGEST_PATTERN)
    """Image that replaces the symbolic `imagewright-worker` in the compiled pipeline, by digest."""
    timeout_seconds: float = Field(default=30.0, gt=0.0, le=600.0)
    """Longest wait for one answer of the server."""
    pending_deadline_seconds: float = Field(default=0.0, ge=0.0)
    """Longest wait of a step for a node, its queue included, while `imagewright run` or `resume` watches the run; then the run is ended.
    0 waits for ever: a pool that scales up, or a queue, may take its time."""

    @model_validator(mode="after")
    def image_is_named(self) -> KubeflowConfig:
        """Refuses a server without the image its steps would run."""
        if self.url and not self.worker_image:
            raise ValueError("worker_image must be set when url is: steps need an image by digest, registry/name@sha256:...")
        return self
