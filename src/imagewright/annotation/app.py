"""The annotation server: two images and one question, rendered on the server, over votes in the annotation store."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from imagewright.annotation.links import LinkError, check_key, open_link
from imagewright.annotation.project import DIMENSIONS
from imagewright.annotation.store import AnnotationStore, View
from imagewright.errors import InputError, Problem

MAX_BODY_BYTES = 16_384
MEDIA_TYPES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp", b"GIF8": "image/gif"}
STALE = "already-answered"
NOTICES = {STALE: "That question was already answered, perhaps in another tab. Here is where you are now.", "nothing": "Nothing to undo."}
PAGES = Environment(loader=PackageLoader("imagewright.annotation.templates", ""), autoescape=True, undefined=StrictUndefined)


def create_app(store: AnnotationStore, link_key: str, clock: Callable[[], float] = time.time) -> FastAPI:
    """Builds the server. Everything below `/a/<token>` belongs to the one assignment that the signed token opens."""
    check_key(link_key)
    app = FastAPI(title="Imagewright annotation", docs_url=None, redoc_url=None, openapi_url=None)

    @app.exception_handler(LinkError)
    async def refuse_link(request: Request, error: LinkError) -> Response:
        return render(request, "message.html", 403, title="This link does not open", text=str(error))

    @app.exception_handler(InputError)
    async def refuse_input(request: Request, error: InputError) -> Response:
        return render(request, "message.html", 400, title="That did not work", text="; ".join(one.rule for one in error.problems))

    @app.middleware("http")
    async def protect(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        request.state.nonce = secrets.token_urlsafe(16)
        response = await call_next(request)
        nonce = request.state.nonce
        response.headers["Content-Security-Policy"] = (
            f"default-src 'none'; img-src 'self'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; form-action 'self'; "
            "base-uri 'none'; frame-ancestors 'none'"
        )
        # The link is the password: it must not travel to other sites, nor be shown from a shared cache.
        response.headers["Referrer-Policy"] = "same-origin"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    @app.get("/health", response_class=PlainTextResponse)
    def health() -> str:
        store.withdrawn("")
        return "ok"

    add_annotator_routes(app, store, lambda token: open_link(link_key, token, clock()))
    return app


def add_annotator_routes(app: FastAPI, store: AnnotationStore, opened: Callable[[str], str]) -> None:
    """The page of one annotator, their votes, and the images they may see. opened: token -> assignment, or LinkError."""

    @app.get("/a/{token}", response_class=HTMLResponse)
    def page(request: Request, token: str, notice: str = "") -> Response:
        return show(request, token, store.view(opened(token)), NOTICES.get(notice, ""))

    @app.post("/a/{token}/vote")
    async def vote(request: Request, token: str) -> Response:
        form = await read_form(request)
        assignment = opened(token)
        answer = form.get("answer") or json.dumps({name: form.get(name) == "pass" for name in DIMENSIONS})
        question, revision = form.get("question", ""), whole_number(form.get("revision", ""))
        if store.vote(assignment, question, revision, answer):
            return back(token)
        stored = {one.question: one.answer for one in store.votes(assignment)}
        return back(token, "" if stored.get(question) == answer else STALE)

    @app.post("/a/{token}/undo")
    async def undo(request: Request, token: str) -> Response:
        form = await read_form(request)
        assignment = opened(token)
        done = store.undo(assignment, whole_number(form.get("revision", "")))
        return back(token, "" if done else "nothing" if not store.votes(assignment) else STALE)

    @app.get("/a/{token}/image/{item}")
    def image(token: str, item: str) -> Response:
        view = store.view(opened(token))
        allowed = {*view.assignment.items, *(key for pair in (*view.project.gold, *view.project.pairs) for key in pair)}
        data = store.image(view.project.name, item) if item in allowed else None
        if data is None:
            return PlainTextResponse("no such image", status_code=404)
        media_type = next((kind for magic, kind in MEDIA_TYPES.items() if data.startswith(magic)), "application/octet-stream")
        return Response(data, media_type=media_type, headers={"Cache-Control": "private, max-age=3600"})


def show(request: Request, token: str, view: View, notice: str) -> Response:
    """The page of where an annotator stands."""
    place = view.position
    shared: dict[str, Any] = {"token": token, "revision": view.revision, "place": place, "notice": notice, "project": view.project}
    if place.question is None:
        return render(request, "done.html", 200, **shared)
    prompts = [view.project.item(key).prompt for key in place.question.images]
    if len(place.question.images) == 1:
        return render(request, "form.html", 200, dimensions=DIMENSIONS, prompt=prompts[0], **shared)
    prompt = prompts[0] if view.project.kind == "preference" and prompts[0] == prompts[1] else ""
    return render(request, "pair.html", 200, prompt=prompt, **shared)


def render(request: Request, name: str, status: int, **values: Any) -> HTMLResponse:
    """A page from its template; every value is escaped."""
    return HTMLResponse(PAGES.get_template(name).render(nonce=request.state.nonce, **values), status_code=status)


def back(token: str, notice: str = "") -> RedirectResponse:
    """To the page, so that reloading it repeats nothing."""
    return RedirectResponse(f"/a/{token}" + (f"?notice={notice}" if notice else ""), status_code=303)


async def read_form(request: Request) -> dict[str, str]:
    """Fields of a posted form of at most 16 KiB, the first value of each. Raises InputError for a larger one."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise InputError(Problem("form", f"must be at most {MAX_BODY_BYTES} bytes"))
    return {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace"), max_num_fields=32).items()}


def whole_number(text: str) -> int:
    """A revision; -1, which no page has, for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
