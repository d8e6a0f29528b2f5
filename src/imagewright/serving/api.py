"""The image server: OpenAI's Images API over the served champion, with health, metrics and a playground page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from threading import Thread
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException

from imagewright.config.serving import ServingConfig
from imagewright.serving.access import Guard
from imagewright.serving.champion import Champion
from imagewright.serving.generation import ImageService
from imagewright.serving.metrics import ServerMetrics
from imagewright.serving.requests import ApiError

DRAIN_SECONDS = 60.0


def create_app(champion: Champion, config: ServingConfig, metrics: ServerMetrics, api_keys: Sequence[str] = ()) -> FastAPI:
    """Builds the server. With `api_keys`, every path but health, metrics and the page needs one as a bearer token."""
    service = ImageService(champion, config, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        Thread(target=champion.watch, name="champion-watch", daemon=True).start()
        yield
        await asyncio.to_thread(champion.drain, DRAIN_SECONDS)
        service.close()

    app = FastAPI(title="Imagewright", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.add_middleware(Guard, metrics=metrics, api_keys=tuple(api_keys))

    @app.exception_handler(ApiError)
    async def answer_error(_: Request, error: ApiError) -> JSONResponse:
        return JSONResponse(error.body(), status_code=error.status, headers=error.headers)

    @app.exception_handler(HTTPException)
    async def answer_http_error(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse(ApiError(error.status_code, str(error.detail)).body(), status_code=error.status_code, headers=error.headers)

    @app.exception_handler(Exception)
    async def answer_crash(_: Request, __: Exception) -> JSONResponse:
        return JSONResponse(ApiError(500, "the server failed on this request", kind="server_error").body(), status_code=500)

    add_open_routes(app, champion, metrics)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": service.models()}

    @app.get("/v1/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        found = [entry for entry in service.models() if name in service.names()]
        if not found:
            raise ApiError(404, f"the model {name!r} is not served", param="model", code="model_not_found")
        return found[0]

    @app.post("/v1/images/generations")
    async def generations(request: Request) -> Response:
        return await service.generate(request)

    return app


def add_open_routes(app: FastAPI, champion: Champion, metrics: ServerMetrics) -> None:
    """The page, liveness, readiness and metrics: all that needs no key."""

    @app.get("/", response_class=HTMLResponse)
    async def playground() -> str:
        return resources.files("imagewright.serving").joinpath("playground.html").read_text(encoding="utf-8")

    @app.get("/health", response_class=PlainTextResponse)
    async def health() -> str:
        return "ok"

    @app.get("/ready")
    async def ready() -> JSONResponse:
        served = champion.current
        if served is None:
            return JSONResponse({"error": champion.last_error}, status_code=503)
        defaults = served.bundle.defaults
        state = {"model": served.version.name, "digest": served.version.digest, "golden": served.golden_sha256}
        settings = {"steps": defaults.num_steps, "guidance_scale": defaults.guidance_scale, "size_px": defaults.size_px}
        enhancer = served.enhancer is not None
        return JSONResponse(
            {**state, "defaults": settings, "stride": served.bundle.stride, "enhancer": enhancer, "error": champion.last_error}
        )

    @app.get("/metrics", response_class=PlainTextResponse)
    async def scrape() -> Response:
        metrics.queue.set(champion.current.engine.load if champion.current else 0)
        metrics.swaps.set(champion.num_swaps)
        return Response(metrics.render(), media_type="text/plain; version=0.0.4")
