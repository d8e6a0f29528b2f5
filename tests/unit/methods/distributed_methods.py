"""Fine-tuning and preference training as one of the processes that torchrun started; each process has an output folder of its own."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from pair_cases import dpo_run, write_model
from pretrain_cases import BATCHING, TRAINING, write_latents

from imagewright.config.pretrain import PretrainStage
from imagewright.config.sft import ExpertConfig, SftConfig
from imagewright.methods.dpo_run import DpoRun, run_dpo
from imagewright.methods.sft import SftRun, run_sft
from imagewright.storage import open_store
from imagewright.tracking.job_run import NullRun
from imagewright.training.archive import ArchivePlace, CheckpointArchive
from imagewright.training.world import World, open_world


def preferences(folder: Path, work: str) -> DpoRun:
    """Steps large enough to be seen, on limits that they keep."""
    return dpo_run(folder, work=work, learning_rate=1e-3, max_chosen_drift=1.0, max_joint_drift=1.0)


def domains(folder: Path, work: str) -> SftRun:
    """Two domains and their experts, a few steps each."""
    if not (folder / "base").exists():
        write_model(folder / "base")
    if not (folder / "data").exists():
        write_latents(folder / "data")
    stage = PretrainStage(steps=4, learning_rate=5e-3, batching=BATCHING)
    config = SftConfig(domains=("c0", "c1"), stage=stage, experts=ExpertConfig(rank=4, alpha=8.0, stage=stage), validation_samples=4)
    return SftRun(config, TRAINING, folder / "base", "b" * 64, folder / "data", folder / work, 0)


def lose_work(folder: Path, world: World) -> ArchivePlace:
    """Keeps the last checkpoint in a store and forgets everything else, as when the machines' shared volume is lost."""
    place = ArchivePlace(open_store((folder / "store").as_uri()), "dpo")
    work = folder / "together" / "dpo"
    if world.is_first:
        newest = max((work / "checkpoints").glob("step-*"))
        step, linked = int(newest.name.removeprefix("step-")), shutil.copytree(newest, folder / "linked")
        CheckpointArchive(place, folder / "staging", print).copy(step, linked)
        shutil.rmtree(work)
    world.barrier()
    return place


def main() -> None:
    """Preference training, the same again from the store alone, and fine-tuning."""
    folder = Path(sys.argv[1])
    os.environ["LOCAL_RANK"] = "0"  # as on machines of their own
    world = open_world()
    output = folder / f"output-{world.rank}"
    settings = preferences(folder, "together")
    run_dpo(settings, output / "dpo", NullRun(), world=world)
    run_dpo(replace(settings, archive=lose_work(folder, world)), output / "again", NullRun(), world=world)
    run_sft(domains(folder, "together"), output / "sft", NullRun(), world=world)


if __name__ == "__main__":
    main()
