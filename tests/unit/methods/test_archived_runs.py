"""Every training job finds the store's copies of its checkpoints on a machine whose work folder is empty."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from distill_cases import CONFIG, distillation
from pretrain_cases import BATCHING, TRAINING, settings
from test_aesthetic_method import brightness_data
from test_aesthetic_run import TINY
from test_enhancer_run import CONFIG as ENHANCER
from test_enhancer_run import settings as enhancer

from imagewright.config.enhancer import PolicyConfig
from imagewright.config.pretrain import PretrainStage
from imagewright.config.sft import ExpertConfig, SftConfig
from imagewright.methods.aesthetic_run import AestheticRun, build_network_with_seed, train
from imagewright.methods.enhancer_run import run_enhancer
from imagewright.methods.mt_dmd_run import run_distillation
from imagewright.methods.pretrain_run import run_pretraining
from imagewright.methods.sft import SftRun, run_sft
from imagewright.storage import open_store
from imagewright.tracking.job_run import NullRun
from imagewright.training.archive import ArchivePlace

Train = Callable[[Path, Path, NullRun], object]


class Listener(NullRun):
    """Keeps the names of events."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def log_event(self, name: str, step: int, detail: str) -> None:
        self.events.append(name)


def fetched_on_a_second_machine(folder: Path, train: Train) -> tuple[int, list[Path]]:
    """Trains to the end, then once more with an empty work folder; returns copies fetched and both payload folders."""
    outputs = [folder / "out-0", folder / "out-1"]
    listener = Listener()
    for number, run in enumerate((NullRun(), listener)):
        outputs[number].mkdir()
        train(folder / f"work-{number}", outputs[number], run)
        for thread in threading.enumerate():  # copies still under way
            if thread.name == "checkpoint-archive":
                thread.join(60)
    return listener.events.count("checkpoint_fetched"), outputs


@pytest.fixture
def place(tmp_path: Path) -> ArchivePlace:
    return ArchivePlace(open_store(f"file://{tmp_path / 'store'}"), "key")


def test_folding_and_matching(tmp_path: Path, place: ArchivePlace) -> None:
    short = CONFIG.model_copy(update={"matching": CONFIG.matching.model_copy(update={"rounds": 1})})
    made = distillation(tmp_path, distill=short, archive=place)
    fetched, (first, second) = fetched_on_a_second_machine(
        tmp_path, lambda work, output, run: run_distillation(replace(made, work=work), output, run)
    )
    assert fetched == 2
    name = "transformer/diffusion_pytorch_model.safetensors"
    assert (first / name).read_bytes() == (second / name).read_bytes()


def test_fine_tuning_and_every_expert(tmp_path: Path, place: ArchivePlace) -> None:
    pretraining = settings(tmp_path)
    run_pretraining(pretraining, tmp_path / "base", NullRun())
    stage = PretrainStage(steps=3, batching=BATCHING)
    config = SftConfig(domains=("c0", "c1"), stage=stage, experts=ExpertConfig(rank=2, alpha=2.0, stage=stage), validation_samples=4)
    made = SftRun(config, TRAINING, tmp_path / "base", "b" * 64, pretraining.latents, tmp_path, 0, archive=place)
    fetched, _ = fetched_on_a_second_machine(tmp_path, lambda work, output, run: run_sft(replace(made, work=work), output, run))
    assert fetched == 3


def test_the_enhancer_in_both_phases(tmp_path: Path, place: ArchivePlace) -> None:
    policy = PolicyConfig(steps=1, prompts_per_step=2, group_size=2, max_new_tokens=8)
    config = ENHANCER.model_copy(update={"policy": policy, "validation_prompts": 0})
    made = replace(enhancer(tmp_path, config), archive=place)
    fetched, _ = fetched_on_a_second_machine(tmp_path, lambda work, output, run: run_enhancer(replace(made, work=work), output, run))
    assert fetched == 2


def test_the_aesthetic_model(tmp_path: Path, place: ArchivePlace) -> None:
    made, trained = AestheticRun(TINY, TRAINING, tmp_path, "0" * 64, tmp_path, archive=place), []

    def learn(work: Path, output: Path, run: NullRun) -> None:
        trained.append(build_network_with_seed(TINY, 0))
        train(replace(made, work=work), trained[-1], brightness_data(), run, None)

    assert fetched_on_a_second_machine(tmp_path, learn)[0] == 1
    first, second = (network.state_dict() for network in trained)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
