"""What happens to one generation request: a place in the queue, its prompt's expansion and encoding, the images, the answer."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from fastapi import Request, Response
from torch import Tensor

from imagewright.config.serving import ServingConfig
from imagewright.diffusion.guidance import needs_guidance
from imagewright.serving.answers import answer_body
from imagewright.serving.champion import Champion, Served
from imagewright.serving.denoising import ImageRequest
from imagewright.serving.engine import EngineStoppedError, QueueFullError
from imagewright.serving.metrics import ServerMetrics
from imagewright.serving.requests import ApiError, CheckedRequest, check_request, parse_request

DISCONNECT_POLL_SECONDS = 0.25
STATUS_CLIENT_GONE = 499
NUM_WRITERS = 2
T = TypeVar("T")


class ImageService:
    """Answers generation requests with the champion of the moment; each request finishes on the version it began with."""

    def __init__(self, champion: Champion, config: ServingConfig, metrics: ServerMetrics) -> None:
        self.champion, self.config, self.metrics = champion, config, metrics
        # Pools of their own: an enhancer that hangs must not keep finished images from being written.
        self.writers = ThreadPoolExecutor(NUM_WRITERS, thread_name_prefix="png")
        self.enhancing = ThreadPoolExecutor(config.enhancer.max_waiting + 2, thread_name_prefix="enhance")

    def close(self) -> None:
        """Ends the pools' threads when their work is done."""
        self.writers.shutdown(wait=False)
        self.enhancing.shutdown(wait=False)

    def models(self) -> list[dict[str, Any]]:
        """The served model as OpenAI lists it; empty while none is loaded."""
        served = self.champion.current
        return [{"id": served.version.name, "object": "model", "created": served.created, "owned_by": "imagewright"}] if served else []

    def names(self) -> set[str]:
        """What the served model may be called: `turbo@7` or `turbo`."""
        served = self.champion.current
        return {served.version.name, served.version.name.split("@", maxsplit=1)[0]} if served else set()

    async def generate(self, request: Request) -> Response:
        """Answers one request. Raises ApiError; a refusal for a full queue comes before any work."""
        parsed = parse_request(await read_body(request, self.config.max_body_bytes, self.config.client_seconds))
        while True:
            served = self.champion.current
            if served is None:
                raise ApiError(
                    503, f"no model is ready: {self.champion.last_error or 'loading'}", code="model_not_ready", kind="server_error"
                )
            if parsed.model and parsed.model not in self.names():
                message = f"the model {parsed.model!r} is not served; {served.version.name} is"
                raise ApiError(404, message, param="model", code="model_not_found")
            checked = check_request(parsed, self.config, served.bundle.defaults, served.bundle.stride)
            try:
                return await self.draw(request, checked, served)
            except QueueFullError as error:
                seconds = str(round(error.retry_after_seconds))
                message = "the server is busy; try again later"
                raise ApiError(
                    429, message, code="rate_limit_exceeded", kind="rate_limit_error", headers={"Retry-After": seconds}
                ) from error
            except EngineStoppedError as error:
                # A swap retired the engine after `current` was read: the new champion takes the request.
                if self.champion.current is served:
                    raise ApiError(503, "the server is shutting down", code="server_shutting_down", kind="server_error") from error

    async def draw(self, request: Request, checked: CheckedRequest, served: Served) -> Response:
        """Makes the images. Raises QueueFullError or EngineStoppedError before anything is computed."""
        with served.engine.reserve(checked.num_images) as hand_in:
            checked = await self.enhance(checked, served)
            found = await wait_for(request, encoded(checked, served))
            if found is None:
                return Response(status_code=STATUS_CLIENT_GONE)
            futures = hand_in(image_requests(checked, found))
        images = await wait_for(request, futures)
        if images is None:
            return Response(status_code=STATUS_CLIENT_GONE)
        content = await asyncio.get_running_loop().run_in_executor(
            self.writers, answer_body, images, checked, served.version, int(time.time())
        )
        return Response(content, media_type="application/json")

    async def enhance(self, checked: CheckedRequest, served: Served) -> CheckedRequest:
        """Replaces the prompt by its expansion where the request wants one; the request's own prompt stands whenever that fails."""
        if not checked.enhancer or served.enhancer is None:
            return checked
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self.enhancing, served.enhancer.enhance, checked.prompt, checked.size_px)
        self.metrics.prompt_enhanced(found)
        return checked.model_copy(update={"prompt": found.text})


async def read_body(request: Request, limit: int, seconds: float) -> bytes:
    """Reads at most `limit` bytes within `seconds`. Raises ApiError (413, 408) as soon as more is announced or arrives, or time is up."""
    too_large = ApiError(413, f"the body must be at most {limit} bytes", code="request_too_large")
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise too_large
    chunks: list[bytes] = []
    total = 0
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                total += len(chunk)
                if total > limit:
                    raise too_large
                chunks.append(chunk)
    except TimeoutError as error:
        raise ApiError(408, f"the body must arrive within {seconds:g} seconds", code="request_timeout") from error
    return b"".join(chunks)


def encoded(checked: CheckedRequest, served: Served) -> list[Future[Tensor]]:
    """Embeddings of the prompt, and of the negative one where it counts."""
    prompts = [checked.prompt, checked.negative_prompt] if needs_guidance(checked.guidance_scale) else [checked.prompt]
    return [served.prompts.submit(prompt) for prompt in prompts]


def image_requests(checked: CheckedRequest, embeds: list[Tensor]) -> list[ImageRequest]:
    """Image number i gets the seed `seed + i`. embeds: as `encoded` gives them."""
    negative = embeds[1] if len(embeds) > 1 else None
    return [
        ImageRequest(embeds[0], negative, checked.size_px, checked.seed + index, checked.num_steps, checked.guidance_scale)
        for index in range(checked.num_images)
    ]


async def wait_for(request: Request, futures: list[Future[T]]) -> list[T] | None:
    """Waits for results; None after the client has gone, with whatever had not finished cancelled."""
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
