"""`imagewright serve`: the image server over the champion of the registry, or over one bundle folder."""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from imagewright.cli import run
from imagewright.cli.config import Overrides, Recipe
from imagewright.config import load_recipe
from imagewright.errors import InputError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from imagewright.serving.champion import ModelVersion
    from imagewright.storage import Store

KEYS_VARIABLE = "IMAGEWRIGHT_API_KEYS"
SWITCH_SECONDS = 0.001


def serve(
    model: Annotated[str, typer.Argument(help="Lineage whose champion is served, for example turbo.")] = "turbo",
    bundle: Annotated[Path | None, typer.Option("--bundle", help="Serve this diffusers folder instead of a champion.")] = None,
    payload: Annotated[str, typer.Option("--payload", help="Serve this payload of the store, champion or not (a canary).")] = "",
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen on.")] = 8080,
    recipe: Recipe = "debug",
    overrides: Overrides = None,
) -> None:
    """Serve images over OpenAI's API; a new champion is swapped in without dropping a request.

    API keys come from IMAGEWRIGHT_API_KEYS (comma-separated); without them only loopback addresses are allowed.
    """
    keys = [key for key in os.environ.get(KEYS_VARIABLE, "").split(",") if key]
    if not keys and host not in {"127.0.0.1", "localhost", "::1"}:
        fix = f"set {KEYS_VARIABLE}, for example to {secrets.token_urlsafe(24)}"
        raise InputError(Problem("--host", "needs API keys when it is not a loopback address", host, fix))
    import uvicorn

    from imagewright.serving.api import DRAIN_SECONDS, create_app
    from imagewright.serving.champion import Champion
    from imagewright.serving.connections import bounded_protocol
    from imagewright.serving.metrics import ServerMetrics

    config = load_recipe(recipe, overrides or []).serving
    metrics = ServerMetrics()
    console = Console()
    if payload and not bundle:
        find = payload_version(model, payload, run.job_environment(console))
    else:
        find = folder_version(bundle) if bundle else registry_version(model, run.job_environment(console))
    champion = Champion(find, config, metrics.image_done)
    with console.status("loading the model"):
        champion.refresh()
    if champion.current is None:
        raise InputError(Problem("model", f"cannot be served: {champion.last_error}", model if bundle is None else str(bundle)))
    console.print(f"serving {champion.current.version.name} on http://{host}:{port}", highlight=False)
    # The engine's thread computes in Python too; a short turn keeps refusals and health checks quick beside it.
    sys.setswitchinterval(SWITCH_SECONDS)
    uvicorn.run(
        create_app(champion, config, metrics, keys),
        host=host,
        port=port,
        log_level="warning",
        http=bounded_protocol(config.client_seconds),
        limit_concurrency=config.max_connections,
        timeout_graceful_shutdown=round(DRAIN_SECONDS),
    )


def folder_version(folder: Path) -> Callable[[], ModelVersion]:
    """A fixed folder as the version to serve; its digest is that of its index file and weights' names and sizes."""
    from imagewright.serving.champion import ModelVersion

    listing = sorted((str(path.relative_to(folder)), path.stat().st_size) for path in folder.rglob("*") if path.is_file())
    version = ModelVersion(folder.resolve().name, hashlib.sha256(repr(listing).encode()).hexdigest(), folder)
    return lambda: version


def payload_version(model: str, payload: str, environment: Mapping[str, str]) -> Callable[[], ModelVersion]:
    """One fixed payload as the version to serve, fetched once, verified; `imagewright://sha256/<digest>` or the digest alone."""
    from imagewright.serving.champion import ModelVersion
    from imagewright.storage import store_from_environment
    from imagewright.storage.digests import parse_digest

    digest = parse_digest(payload)
    store = store_from_environment({**os.environ, **environment})
    return lambda: ModelVersion(f"{model}@{digest[:12]}", digest, fetched(store, digest))


def registry_version(model: str, environment: Mapping[str, str]) -> Callable[[], ModelVersion]:
    """Asks the promotion log who is champion, and fetches its payload once, verified."""
    from imagewright.serving.champion import ModelVersion
    from imagewright.storage import store_from_environment
    from imagewright.tracking.promotion_log import PromotionLog

    store = store_from_environment({**os.environ, **environment})

    def find() -> ModelVersion:
        entry = PromotionLog(store, model).last()
        if entry is None:
            raise InputError(Problem(f"model {model}", "has no champion yet", None, f"imagewright promote {model}@1"))
        return ModelVersion(f"{model}@{entry.version}", entry.digest, fetched(store, entry.digest))

    return find


def fetched(store: Store, digest: str) -> Path:
    """Local folder of a payload, downloaded when it is not there yet."""
    folder = run.home_folder() / "payloads" / digest
    if not folder.exists():
        store.get(digest, folder)
    return folder
