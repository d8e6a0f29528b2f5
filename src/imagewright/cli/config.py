"""`imagewright config`: shows the resolved configuration of a recipe."""

from __future__ import annotations

from typing import Annotated

import typer
import yaml

from imagewright.config import load_recipe

Recipe = Annotated[str, typer.Option("--recipe", help="Packaged recipe name or path of a YAML file.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="Override, as dotted.key=value; repeatable.")]


def show_config(recipe: Recipe = "debug", overrides: Overrides = None) -> None:
    """Print the resolved configuration of a recipe as YAML."""
    config = load_recipe(recipe, overrides or [])
    typer.echo(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True), nl=False)
