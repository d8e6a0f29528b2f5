"""What the train-vae job promises about its autoencoder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from fixtures.curated_scenes import write_curated

from imagewright.config.vae import VaeConfig
from imagewright.evaluation.vae_quality import VaeQualityError, make_vae, require_accuracy
from imagewright.models.vae import digest, load_vae
from imagewright.models.vae_training import STATE_FILE, train_vae
from imagewright.tracking.job_run import NullRun

TINY = VaeConfig(
    block_out_channels=(8, 8, 8),
    latent_channels=4,
    norm_num_groups=4,
    steps=6,
    warmup_steps=2,
    batch_size=8,
    statistics_images=32,
    checkpoint_every_steps=3,
)


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_curated(tmp_path_factory.mktemp("curated"), 80)


def test_payload_holds_a_frozen_autoencoder_and_its_figures(curated: Path, tmp_path: Path) -> None:
    outcome = make_vae(TINY, curated, tmp_path / "out", tmp_path / "work", 0, NullRun())
    tree = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert tree["vae_digest"] == digest(load_vae(tmp_path / "out" / "vae"))
    assert tree["metrics"]["validation/judged_ceiling"] >= 0.95
    assert outcome.counts["num_in"] == outcome.counts["num_kept"] + outcome.counts["num_dropped"]
    assert outcome.counts["num_statistics_images"] == 32


def test_ready_made_autoencoder_is_taken_as_it_is(curated: Path, tmp_path: Path) -> None:
    make_vae(TINY, curated, tmp_path / "a", tmp_path / "work", 0, NullRun())
    make_vae(TINY.model_copy(update={"source": str(tmp_path / "a" / "vae")}), curated, tmp_path / "b", tmp_path / "work2", 0, NullRun())
    assert digest(load_vae(tmp_path / "a" / "vae")) == digest(load_vae(tmp_path / "b" / "vae"))
    assert not (tmp_path / "work2" / STATE_FILE).exists()


def test_job_fails_just_below_the_wanted_accuracy() -> None:
    require_accuracy(0.9, 0.9)
    with pytest.raises(VaeQualityError, match=r"vae\.min_judged_accuracy"):
        require_accuracy(0.8999, 0.9)


def test_killed_training_goes_on_and_ends_with_the_same_weights(tmp_path: Path) -> None:
    images = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole, _ = train_vae(TINY, images, images[:4], work=tmp_path / "a", seed=3, log=lambda metrics, step: None)

    def stop_at(metrics: dict[str, float], step: int) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_vae(TINY, images, images[:4], work=tmp_path / "b", seed=3, log=stop_at)
    resumed, _ = train_vae(TINY, images, images[:4], work=tmp_path / "b", seed=3, log=lambda metrics, step: None)
    assert digest(resumed) == digest(whole)


def test_training_brings_the_loss_down(tmp_path: Path) -> None:
    images = torch.full((32, 3, 32, 32), 200, dtype=torch.uint8)
    losses: list[float] = []
    config = TINY.model_copy(update={"steps": 21, "batch_size": 4})

    def note(metrics: dict[str, float], step: int) -> None:
        losses.append(metrics.get("train/loss", 0.0))

    train_vae(config, images, images[:4], work=tmp_path, seed=2**63 - 1, log=note)  # the largest seed a job gets
    assert losses[1] < 0.5 * losses[0]
