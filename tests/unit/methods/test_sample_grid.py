"""Pictures drawn while training: what they show, that they repeat, that a run without an autoencoder goes on without them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pretrain_cases import BATCHING, MODEL, TRAINING, dataset_of, settings

from imagewright.config.pretrain import PretrainConfig, PretrainStage
from imagewright.config.sample_grid import SampleGridConfig
from imagewright.config.vae import VaeConfig
from imagewright.data.latents import EncodedCaption, LatentsContract, LatentsError, LatentsWriter
from imagewright.methods.pretrain_run import Pretraining, run_pretraining
from imagewright.methods.sample_grid import SampleGrid, stage_at
from imagewright.models.dit import ErnieImageDiT
from imagewright.models.vae import build_vae, digest, freeze, save_vae
from imagewright.tracking.job_run import NullRun

STAGE = PretrainStage(steps=4, batching=BATCHING)
PRETRAIN = PretrainConfig(stages=(STAGE,), validation_samples=4)
GRID = SampleGridConfig(every_steps=2, num_prompts=3, num_steps=2)


class Album(NullRun):
    """Keeps what was logged as an artifact."""

    def __init__(self) -> None:
        self.pictures: list[tuple[str, str]] = []

    def log_artifact(self, path: Path, folder: str = "") -> None:
        super().log_artifact(path, folder)
        self.pictures.append((folder, path.name))


def painted_run(folder: Path, work: str = "work") -> Pretraining:
    """A run over latents of a tiny autoencoder, three shapes of picture, two categories."""
    if not (folder / "vae").exists():
        torch.manual_seed(0)
        vae = freeze(build_vae(VaeConfig(block_out_channels=(4, 4), latent_channels=2, norm_num_groups=2, resolution_px=16)))
        save_vae(vae, folder / "vae")
        contract = LatentsContract(vae_digest=digest(vae), stride=4, channels=8, text_dim=12, max_tokens=16)
        with LatentsWriter(folder / "latents", contract, torch.zeros(1, 12)) as writer:
            for index in range(40):
                torch.manual_seed(index)
                height, width = [(4, 4), (2, 8), (8, 2)][index % 3]
                captions = [EncodedCaption("long", torch.randn(3, 12))]
                writer.add(f"k{index}", torch.randn(8, height, width), captions, category=f"c{index % 2}")
    training = TRAINING.model_copy(update={"sample_grid": GRID})
    run = settings(folder, work, pretrain=PRETRAIN, training=training)
    return Pretraining(run.model, run.pretrain, run.training, run.latents, run.work, vae=folder / "vae")


def test_a_run_logs_a_picture_every_k_steps_and_at_its_end(tmp_path: Path) -> None:
    album = Album()
    run_pretraining(painted_run(tmp_path), tmp_path / "out", album)
    assert album.pictures == [("samples", "step-00000002.png"), ("samples", "step-00000004.png")]
    with Image.open(tmp_path / "work" / "samples" / "step-00000004.png") as picture:
        assert picture.size == (3 * 64 + 2 * 2, 2 * 64 + 2)


def test_pictures_change_neither_the_training_nor_each_other(tmp_path: Path) -> None:
    first, second = painted_run(tmp_path, "first"), painted_run(tmp_path, "second")
    with_pictures, _ = run_pretraining(first, tmp_path / "a", NullRun())
    run_pretraining(second, tmp_path / "b", NullRun())
    blind = Pretraining(first.model, first.pretrain, first.training, first.latents, tmp_path / "blind")
    without, _ = run_pretraining(blind, tmp_path / "c", NullRun())
    assert with_pictures.last_loss == without.last_loss
    name = "samples/step-00000002.png"
    assert (first.work / name).read_bytes() == (second.work / name).read_bytes()


def test_held_out_samples_of_every_category_come_first_and_each_once(tmp_path: Path) -> None:
    run = painted_run(tmp_path)
    dataset = dataset_of(run)
    held_out = frozenset(range(0, 40, 5))
    assert run.vae is not None
    grid = SampleGrid(GRID, dataset, held_out, (STAGE,), run.vae, tmp_path / "grid")
    found = list(grid.samples(0))
    assert [sample.category for sample in found] == ["c0", "c1", "c0"]
    assert {int(sample.sample_key[1:]) for sample in found} <= held_out


def test_the_upper_row_shows_the_data(tmp_path: Path) -> None:
    run = painted_run(tmp_path)
    assert run.vae is not None
    torch.manual_seed(1)
    grid = SampleGrid(GRID, dataset_of(run), frozenset({0}), (STAGE,), run.vae, tmp_path / "grid")
    with torch.no_grad(), Image.open(grid.paint(ErnieImageDiT(MODEL), 1)) as picture:
        shown = np.asarray(picture)[:64][::4, ::4]
    assert np.array_equal(shown, grid.pixels(dataset_of(run).read(0).latents))


def test_another_autoencoder_than_the_one_behind_the_latents_is_refused(tmp_path: Path) -> None:
    run = painted_run(tmp_path)
    torch.manual_seed(9)
    save_vae(build_vae(VaeConfig(block_out_channels=(4, 4), latent_channels=2, norm_num_groups=2, resolution_px=16)), tmp_path / "other")
    grid = SampleGrid(GRID, dataset_of(run), frozenset(), (STAGE,), tmp_path / "other", tmp_path / "grid")
    with pytest.raises(LatentsError):
        grid.paint(ErnieImageDiT(MODEL), 1)


def test_the_stage_of_a_step_counts_from_one() -> None:
    stages = (STAGE, STAGE.model_copy(update={"steps": 2}))
    assert [stage_at(stages, step) for step in (1, 4, 5, 6, 7)] == [0, 0, 1, 1, 1]
