"""One process of a pretraining run that torchrun started: `python -m imagewright.methods.pretrain_process settings.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rich.console import Console

from imagewright.config.model import ModelConfig
from imagewright.config.pretrain import PretrainConfig
from imagewright.config.training import TrainingConfig
from imagewright.methods.pretrain_run import Pretraining, run_pretraining
from imagewright.storage import store_from_environment
from imagewright.tracking.job_run import JobRun, NullRun
from imagewright.training.archive import ArchivePlace
from imagewright.training.processes import JournalRun, run_processes
from imagewright.training.trainer import FitResult
from imagewright.training.world import open_world

SETTINGS, JOURNAL, RESULT = "settings.json", "journal.jsonl", "result.json"


def start_pretraining(settings: Pretraining, output: Path, run: JobRun) -> tuple[FitResult, dict[str, int]]:
    """Runs pretraining in `settings.training.num_processes` processes; everything else as `run_pretraining`."""
    work = settings.work
    content = {
        "model": settings.model.model_dump(mode="json"),
        "pretrain": settings.pretrain.model_dump(mode="json"),
        "training": settings.training.model_dump(mode="json"),
        "latents": str(settings.latents),
        "work": str(work),
        "seed": settings.seed,
        "output": str(output),
        "archive": settings.archive.name if settings.archive is not None else "",
        "vae": str(settings.vae) if settings.vae is not None else "",
    }
    (work / SETTINGS).write_text(json.dumps(content), encoding="utf-8")
    run_processes(__name__, [str(work / SETTINGS)], settings.training.num_processes, work / JOURNAL, run)
    result = json.loads((work / RESULT).read_text(encoding="utf-8"))
    return FitResult(**result["fit"]), result["counts"]


def main() -> None:
    """Trains as one of the processes; the first one writes the model, the journal and the result."""
    content = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    work, output = Path(content["work"]), Path(content["output"])
    settings = Pretraining(
        model=ModelConfig.model_validate_json(json.dumps(content["model"])),
        pretrain=PretrainConfig.model_validate_json(json.dumps(content["pretrain"])),
        training=TrainingConfig.model_validate_json(json.dumps(content["training"])),
        latents=Path(content["latents"]),
        work=work,
        seed=content["seed"],
        archive=ArchivePlace(store_from_environment(), content["archive"]) if content["archive"] else None,
        vae=Path(content["vae"]) if content["vae"] else None,
    )
    world = open_world()
    run = JournalRun(work / JOURNAL) if world.is_first else NullRun()
    console = Console(stderr=True) if world.is_first else None
    result, counts = run_pretraining(settings, output, run, console=console, world=world)
    if world.is_first:
        (work / RESULT).write_text(json.dumps({"fit": vars(result), "counts": counts}), encoding="utf-8")


if __name__ == "__main__":
    main()
