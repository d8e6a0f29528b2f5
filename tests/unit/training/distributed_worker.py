"""Started by torchrun: trains the tiny problem under one engine, writes gradients of the first step and the state after the last."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tiny_run import CONFIG, TinyLoader, TinyMethod, build

from imagewright.training.engine import Engine
from imagewright.training.trainer import Trainer
from imagewright.training.world import open_world


def gradients(engine: Engine) -> dict[str, torch.Tensor]:
    """Whole gradients by parameter name, summed over processes."""
    if type(engine).__name__ == "TorchEngine":
        return {name: parameter.grad.clone() for name, parameter in engine.module.named_parameters() if parameter.grad is not None}
    from deepspeed.utils import safe_get_full_grad

    return {name: safe_get_full_grad(parameter).clone() for name, parameter in engine.module.named_parameters()}


class Watched(Trainer):
    """Keeps the gradients that the first update saw."""

    first: dict[str, torch.Tensor] | None = None

    def update(self, verdict, rates) -> None:  # type: ignore[no-untyped-def]
        if self.first is None:
            self.first = gradients(self.engines["transformer"])
        super().update(verdict, rates)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--engine", default="torch")
    parser.add_argument("--zero-stage", type=int, default=1)
    parser.add_argument("--cuts", default="32")
    parser.add_argument("--steps", type=int, default=4)
    arguments = parser.parse_args()
    world = open_world()
    changes = {"engine": arguments.engine, "zero_stage": arguments.zero_stage, "checkpoint_every_steps": 2}
    loader = TinyLoader(32, tuple(int(size) for size in arguments.cuts.split(",")), world)
    trainer, recorder = build(
        arguments.folder,
        steps=arguments.steps,
        method=TinyMethod(noise=0.0),
        loader=loader,
        config=CONFIG.model_copy(update=changes),
        world=world,
        kind=Watched,
    )
    result = trainer.fit()
    weights, average = trainer.engines["transformer"].export_weights(), trainer.average_weights("transformer")
    if world.is_first:
        assert isinstance(trainer, Watched)
        arguments.out.mkdir(parents=True, exist_ok=True)
        save_file(trainer.first or {"none": torch.zeros(1)}, arguments.out / "gradients.safetensors")
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, arguments.out / "weights.safetensors")
        save_file(average, arguments.out / "average.safetensors")
        report = {"resumed_from": result.resumed_from, "losses": [step.loss for step in recorder.reports]}
        (arguments.out / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
