"""`imagewright plan`: what a recipe costs before it runs."""

from __future__ import annotations

from pathlib import Path
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
    calibration: Annotated[Path | None, typer.Option("--calibration", help="Rates measured by plan calibrate, in place of --mfu.")] = None,
    price: Annotated[float, typer.Option("--price", help="Price of one GPU hour; 0 prints no cost.")] = 0.0,
) -> None:
    """Print what pretraining takes, with the formula beside each number; refuses a plan that cannot fit."""
    from imagewright.planning.calibration import read_calibration
    from imagewright.planning.pretraining import plan_pretraining

    config = load_recipe(recipe, overrides or [])
    lines = plan_pretraining(
        config.model,
        config.pretrain,
        config.pretrain.training_of(config.training),
        gpu=gpu,
        num_gpus=gpus,
        mfu=mfu,
        price_per_gpu_hour=price,
        calibration=read_calibration(calibration) if calibration is not None else None,
    )
    table = Table("quantity", "value", "formula", title=f"pretraining {config.name} on {gpus} x {gpu}")
    for line in lines:
        table.add_row(line.name, line.value, line.formula)
    Console().print(table)


@app.command("calibrate")
def calibrate_device(
    output: Annotated[Path, typer.Option("--output", help="Where to write the rates.")] = Path("calibration.json"),
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Interleaved steps of each shape.")] = 9,
) -> None:
    """Time training steps of two small shapes on this machine's device; `plan pretraining --calibration` then needs no assumed MFU."""
    import platform

    import torch

    from imagewright.planning.calibration import calibrate, write_calibration
    from imagewright.planning.step_timing import CALIBRATION_SHAPES, time_steps

    on_gpu = torch.cuda.is_available()
    seconds = time_steps(CALIBRATION_SHAPES, rounds, torch.bfloat16 if on_gpu else torch.float32)
    device = torch.cuda.get_device_name() if on_gpu else f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    rates = calibrate(list(zip(CALIBRATION_SHAPES, seconds, strict=True)), device)
    write_calibration(rates, output)
    Console().print(
        f"{device}: {rates.flops_per_second / 1e12:.3g} TFLOP/s, {rates.elements_per_second / 1e9:.3g} G elements/s; written to {output}",
        highlight=False,
    )
