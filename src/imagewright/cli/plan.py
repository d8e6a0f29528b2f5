"""`imagewright plan`: what a recipe costs before it runs."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from imagewright.cli.config import Overrides, Recipe
from imagewright.config import load_recipe

app = typer.Typer(no_args_is_help=True, help="Estimate parameters, FLOPs, memory, days and cost before anything runs.")


@app.callback()
def plan() -> None:
    """Estimate what a stage costs."""


@app.command("pretraining")
def pretraining(
    recipe: Recipe = "ernie_8b",
    overrides: Overrides = None,
    gpus: Annotated[int, typer.Option("--gpus", help="Number of GPUs.")] = 64,
    gpu: Annotated[str, typer.Option("--gpu", help="a100, h100 or h200.")] = "h100",
    mfu: Annotated[float, typer.Option("--mfu", help="Share of the peak assumed to be reached.")] = 0.4,
    price: Annotated[float, typer.Option("--price", help="Price of one GPU hour; 0 prints no cost.")] = 0.0,
) -> None:
    """Print what pretraining takes, with the formula beside each number; refuses a plan that cannot fit."""
    from imagewright.planning.pretraining import plan_pretraining

    config = load_recipe(recipe, overrides or [])
    lines = plan_pretraining(config.model, config.pretrain, config.training, gpu=gpu, num_gpus=gpus, mfu=mfu, price_per_gpu_hour=price)
    table = Table("quantity", "value", "formula", title=f"pretraining {config.name} on {gpus} x {gpu}")
    for line in lines:
        table.add_row(line.name, line.value, line.formula)
    Console().print(table)
