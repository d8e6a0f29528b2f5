"""`imagewright annotate`: create a project, hand out personal links, serve the page, export the votes."""

from __future__ import annotations

import json
import os
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from imagewright.cli.data import RegistryUrl, StoreUrl, open_from
from imagewright.errors import InputError, Problem

if TYPE_CHECKING:
    from imagewright.annotation.store import AnnotationStore

DATABASE_VARIABLE = "IMAGEWRIGHT_ANNOTATION_DATABASE"
KEY_VARIABLE = "IMAGEWRIGHT_ANNOTATION_LINK_KEY"
URL_VARIABLE = "IMAGEWRIGHT_ANNOTATION_PUBLIC_URL"
MAX_IMAGE_BYTES = 32 * 1024 * 1024
MAX_PROJECT_BYTES = 64 * 1024 * 1024

app = typer.Typer(no_args_is_help=True, help="Let people vote on images: tournaments, preferences, pass/fail forms.")
Database = Annotated[str, typer.Option("--database", envvar=DATABASE_VARIABLE, help="Database URL, for example sqlite:///votes.db.")]


def open_database(url: str) -> AnnotationStore:
    """The annotation store."""
    from imagewright.annotation.store import AnnotationStore

    return AnnotationStore(url)


def link_key() -> str:
    """The signing key from the environment. Raises InputError without one."""
    key = os.environ.get(KEY_VARIABLE, "")
    if not key:
        raise InputError(Problem(KEY_VARIABLE, "must be set", None, f"export {KEY_VARIABLE}={secrets.token_urlsafe(24)} and keep it"))
    return key


@app.command()
def create(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Project as JSON: name, kind, question, items, pairs, gold.")],
    images: Annotated[Path, typer.Option("--images", exists=True, file_okay=False, help="Folder with one file per item: KEY.png.")],
    database: Database = "sqlite:///annotation.db",
) -> None:
    """Store a project and its images."""
    from imagewright.annotation.project import Project

    if file.stat().st_size > MAX_PROJECT_BYTES:
        raise InputError(Problem("project", f"must be at most {MAX_PROJECT_BYTES} bytes", str(file)))
    try:
        project = Project.model_validate(json.loads(file.read_text(encoding="utf-8")))
    except ValueError as error:
        raise InputError(Problem("project", f"cannot be used: {error}", str(file))) from error
    found = {path.stem: path for path in sorted(images.iterdir()) if path.suffix.lower() in {".png", ".jpg", ".jpeg", ".webp", ".gif"}}
    wanted = {item.key: found[item.key] for item in project.items if item.key in found}
    if large := [str(path) for path in wanted.values() if path.stat().st_size > MAX_IMAGE_BYTES]:
        raise InputError(Problem("images", f"must be at most {MAX_IMAGE_BYTES} bytes each", large[:3], "make them smaller"))
    open_database(database).create_project(project, {key: path.read_bytes() for key, path in wanted.items()})
    Console().print(f"project {project.name}: {len(project.items)} images", highlight=False)


@app.command()
def invite(
    project: Annotated[str, typer.Argument(help="Project name.")],
    annotator: Annotated[str, typer.Argument(help="Who the link is for.")],
    items: Annotated[str, typer.Option("--items", help="Comma-separated keys of this annotator's own tournament; all without it.")] = "",
    days: Annotated[float, typer.Option("--days", min=0.01, max=365, help="Days the link stays valid.")] = 14.0,
    database: Database = "sqlite:///annotation.db",
) -> None:
    """Print the personal link of one annotator."""
    from imagewright.annotation.links import sign_link

    keys = tuple(key for key in items.split(",") if key) or None
    assignment = open_database(database).assign(project, annotator, keys)
    token = sign_link(link_key(), assignment.id, time.time() + days * 86_400)
    typer.echo(f"{os.environ.get(URL_VARIABLE, 'http://127.0.0.1:8090').rstrip('/')}/a/{token}")


@app.command()
def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen on.")] = 8090,
    database: Database = "sqlite:///annotation.db",
) -> None:
    """Serve the annotation page."""
    import uvicorn

    from imagewright.annotation.app import create_app

    application = create_app(open_database(database), link_key())
    Console().print(f"annotation page on http://{host}:{port}", highlight=False)
    # No access log: the path of every request is somebody's personal link.
    uvicorn.run(application, host=host, port=port, log_level="warning", access_log=False)


@app.command()
def delete_image(
    project: Annotated[str, typer.Argument(help="Project name.")],
    item: Annotated[str, typer.Argument(help="Key of the image.")],
    database: Database = "sqlite:///annotation.db",
) -> None:
    """Delete an image everywhere in a project; votes already given stand."""
    open_database(database).delete_image(project, item)


@app.command()
def export(
    project: Annotated[str, typer.Argument(help="Project name.")],
    folder: Annotated[Path, typer.Argument(help="Folder to write ratings, pairs and agreement to.")],
    commit: Annotated[str, typer.Option("--commit", help="Dataset of the data registry to publish the folder as.")] = "",
    registry: RegistryUrl = "",
    store: StoreUrl = "",
    database: Database = "sqlite:///annotation.db",
) -> None:
    """Write ratings, preference pairs or forms with agreement statistics, and publish them where asked to."""
    from imagewright.annotation.export import export_project

    if commit and folder.exists() and any(folder.iterdir()):
        raise InputError(Problem("folder", "must be empty or absent: all of it is published", str(folder), "name another folder"))
    summary = export_project(open_database(database), project, folder)
    typer.echo(json.dumps(summary, indent=2))
    if commit:
        shared = summary.get("pair_agreement", {})
        said = "not measured" if shared.get("agreement") is None else f"{shared['agreement']:.1%} of {shared['shared_comparisons']}"
        message = (
            f"Votes of {project}: {summary['votes']} by {summary['annotators_trusted']} trusted annotators\n\n"
            f"Origin: {summary['origin']}. Agreement on shared comparisons: {said}."
        )
        typer.echo(open_from(registry, store).commit(commit, folder, message))
