"""The image server: OpenAI's Images API over the served champion, with health, metrics and a playground page."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import io
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from importlib import resources
from threading import Thread
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from PIL import Image as PILImage
from PIL.PngImagePlugin import PngInfo

from imagewright.config.serving import ServingConfig
from imagewright.serving.champion import Champion, Served
from imagewright.serving.engine import EngineStoppedError, Image, ImageRequest, QueueFullError
from imagewright.serving.metrics import ServerMetrics
from imagewright.serving.requests import ApiError, CheckedRequest, check_request, parse_request

DISCONNECT_POLL_SECONDS = 0.25
DRAIN_SECONDS = 60.0
OPEN_PATHS = ("/", "/health", "/ready", "/metrics")
STATUS_CLIENT_GONE = 499


def create_app(champion: Champion, config: ServingConfig, metrics: ServerMetrics, api_keys: Sequence[str] = ()) -> FastAPI:
    """Builds the server. With `api_keys`, every path but health, metrics and the page needs one as a bearer token."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        Thread(target=champion.watch, name="champion-watch", daemon=True).start()
        yield
        await asyncio.to_thread(champion.drain, DRAIN_SECONDS)

    app = FastAPI(title="Imagewright", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    hashed_keys = [hashlib.sha256(key.encode()).digest() for key in api_keys]

    @app.exception_handler(ApiError)
    async def answer_error(_: Request, error: ApiError) -> JSONResponse:
        return JSONResponse(error.body(), status_code=error.status)

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        if hashed_keys and request.url.path not in OPEN_PATHS and not authorised(request, hashed_keys):
            denied = ApiError(401, "a valid API key is required as a bearer token", code="invalid_api_key")
            metrics.requests.labels(status="401").inc()
            return JSONResponse(denied.body(), status_code=401)
        response = await call_next(request)
        if request.url.path.startswith("/v1/"):
            metrics.requests.labels(status=str(response.status_code)).inc()
        return response

    add_open_routes(app, champion, metrics)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        served = champion.current
        data = [{"id": served.version.name, "object": "model", "created": served.created, "owned_by": "imagewright"}] if served else []
        return {"object": "list", "data": data}

    @app.post("/v1/images/generations")
    async def generations(request: Request) -> Response:
        return await generate(request, champion, config, metrics)

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
        state = {"model": served.version.name, "digest": served.version.digest, "golden": served.golden_sha256} if served else {}
        return JSONResponse({**state, "error": champion.last_error}, status_code=200 if served else 503)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def scrape() -> Response:
        metrics.queue.set(champion.current.engine.load if champion.current else 0)
        metrics.swaps.set(champion.num_swaps)
        return Response(metrics.render(), media_type="text/plain; version=0.0.4")


def authorised(request: Request, hashed_keys: Sequence[bytes]) -> bool:
    """Compares digests in constant time, so an answer's delay tells nothing about a key."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    given = hashlib.sha256(token.encode()).digest()
    return scheme.lower() == "bearer" and any(hmac.compare_digest(given, key) for key in hashed_keys)


async def generate(request: Request, champion: Champion, config: ServingConfig, metrics: ServerMetrics) -> Response:
    """Answers one generation request."""
    parsed = parse_request(await read_body(request, config.max_body_bytes))
    served = champion.current
    if served is None:
        raise ApiError(503, f"no model is ready: {champion.last_error or 'loading'}", code="model_not_ready", kind="server_error")
    if parsed.model not in {None, "", served.version.name, served.version.name.split("@", maxsplit=1)[0]}:
        raise ApiError(404, f"the model {parsed.model!r} is not served; {served.version.name} is", param="model", code="model_not_found")
    checked = await enhance(check_request(parsed, config, served.bundle.defaults, served.bundle.stride), served, metrics)
    try:
        futures = served.engine.submit(await asyncio.to_thread(image_requests, checked, served))
    except QueueFullError as error:
        full = ApiError(429, "the server is busy; try again later", code="rate_limit_exceeded", kind="rate_limit_error")
        return JSONResponse(full.body(), status_code=429, headers={"Retry-After": str(round(error.retry_after_seconds))})
    except EngineStoppedError:
        return await generate_again(request, champion, config, metrics, served)
    images = await wait_for(request, futures)
    if images is None:
        return Response(status_code=STATUS_CLIENT_GONE)
    data = [{"b64_json": png_base64(image, checked, served, index), "revised_prompt": checked.prompt} for index, image in enumerate(images)]
    return Response(json.dumps({"created": int(time.time()), "data": data}), media_type="application/json")


async def generate_again(request: Request, champion: Champion, config: ServingConfig, metrics: ServerMetrics, old: Served) -> Response:
    """A swap closed the engine between reading `current` and submitting: the new champion takes the request."""
    if champion.current is old:
        raise ApiError(503, "the server is shutting down", code="server_shutting_down", kind="server_error")
    return await generate(request, champion, config, metrics)


async def enhance(checked: CheckedRequest, served: Served, metrics: ServerMetrics) -> CheckedRequest:
    """Replaces the prompt by its expansion where the request wants one; the request's own prompt stands whenever that fails."""
    if not checked.enhancer or served.enhancer is None:
        return checked
    found = await asyncio.to_thread(served.enhancer.enhance, checked.prompt, checked.size_px)
    metrics.prompt_enhanced(found)
    return checked.model_copy(update={"prompt": found.text})


async def read_body(request: Request, limit: int) -> bytes:
    """Reads at most `limit` bytes. Raises ApiError (413) as soon as more is announced or arrives."""
    too_large = ApiError(413, f"the body must be at most {limit} bytes", code="request_too_large")
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise too_large
    cached: bytes | None = getattr(request.state, "body", None)
    if cached is not None:
        return cached
    chunks: list[bytes] = []
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
        if total > limit:
            raise too_large
        chunks.append(chunk)
    request.state.body = b"".join(chunks)
    return request.state.body  # type: ignore[no-any-return]


def image_requests(checked: CheckedRequest, served: Served) -> list[ImageRequest]:
    """Encodes the prompts and gives image number i the seed `seed + i`."""
    prompt, negative = served.bundle.text_encoder.encode([checked.prompt, checked.negative_prompt])
    return [
        ImageRequest(prompt, negative, checked.size_px, checked.seed + index, checked.num_steps, checked.guidance_scale)
        for index in range(checked.num_images)
    ]


async def wait_for(request: Request, futures: list[Future[Image]]) -> list[Image] | None:
    """Waits for the images; None after the client has gone, with whatever had not finished cancelled."""
    pending = asyncio.gather(*(asyncio.wrap_future(future) for future in futures))
    while True:
        done, _ = await asyncio.wait([pending], timeout=DISCONNECT_POLL_SECONDS)
        if done:
            try:
                return list(pending.result())
            except Exception as error:
                raise ApiError(500, "the image could not be made", code="generation_failed", kind="server_error") from error
        if await request.is_disconnected():
            pending.cancel()
            for future in futures:
                future.cancel()
            return None


def png_base64(image: Image, checked: CheckedRequest, served: Served, index: int) -> str:
    """PNG with its provenance as text chunks: model, digest, seed and settings, and the prompt's hash, never the prompt itself."""
    info = PngInfo()
    facts = {
        "model": served.version.name,
        "digest": served.version.digest,
        "seed": checked.seed + index,
        "steps": checked.num_steps,
        "guidance_scale": checked.guidance_scale,
        "prompt_sha256": hashlib.sha256(checked.prompt.encode()).hexdigest(),
    }
    info.add_text("imagewright", json.dumps(facts))
    buffer = io.BytesIO()
    PILImage.fromarray(image).save(buffer, format="PNG", pnginfo=info)
    return base64.b64encode(buffer.getvalue()).decode()
