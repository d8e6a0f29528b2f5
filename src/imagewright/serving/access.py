"""Who may ask the image server: bearer keys, checked before anything else runs, and a count of every answer by status."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imagewright.serving.metrics import ServerMetrics
from imagewright.serving.requests import ApiError

OPEN_PATHS = ("/", "/health", "/ready", "/metrics")
API_PREFIX = "/v1/"


class Guard:
    """ASGI middleware around the whole server."""

    def __init__(self, app: ASGIApp, metrics: ServerMetrics, api_keys: Sequence[str]) -> None:
        self.app, self.metrics = app, metrics
        self.hashed_keys = [hashlib.sha256(key.encode()).digest() for key in api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers 401 itself; passes everything else on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        counted = scope["path"].startswith(API_PREFIX)

        async def count(message: Message) -> None:
            if counted and message["type"] == "http.response.start":
                self.metrics.requests.labels(status=str(message["status"])).inc()
            await send(message)

        if self.hashed_keys and scope["path"] not in OPEN_PATHS and not self.authorised(Headers(scope=scope)):
            denied = ApiError(401, "a valid API key is required as a bearer token", code="invalid_api_key")
            await JSONResponse(denied.body(), status_code=401)(scope, receive, count)
            return
        await self.app(scope, receive, count)

    def authorised(self, headers: Headers) -> bool:
        """Compares digests in constant time, so an answer's delay tells nothing about a key."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = hashlib.sha256(token.encode()).digest()
        return scheme.lower() == "bearer" and any(hmac.compare_digest(given, key) for key in self.hashed_keys)
