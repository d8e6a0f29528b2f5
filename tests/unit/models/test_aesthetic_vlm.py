"""A vision-language model as a scorer, on a tiny randomly initialised one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.tiny_vision_language import write_vision_language_model

from imagewright.config.aes import AesConfig
from imagewright.errors import InputError
from imagewright.methods.aesthetic import AestheticMethod, PairBatch
from imagewright.models.aesthetic import AestheticScorer, Calibration, build_network, load_scorer, save_scorer
from imagewright.models.aesthetic_vlm import QUESTION, load_vision_language_scorer, score_words


def write_model(folder: Path, words: list[str]) -> Path:
    """A model that knows the question and `words`."""
    return write_vision_language_model(folder, [*QUESTION.replace(".", " .").split(), *words])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("vlm"), score_words())


def test_score_words_are_the_reports_codes() -> None:
    words = score_words()
    assert len(words) == len(set(words)) == 101
    assert [words[score] for score in (0, 25, 26, 50, 51, 75, 76, 100)] == ["aa", "az", "ca", "cy", "da", "dy", "ea", "ey"]


def test_any_image_text_to_text_model_scores_and_learns_through_the_same_interface(model: Path, tmp_path: Path) -> None:
    config = AesConfig(backbone="vision_language", pretrained=str(model), side_px=28, members=1)
    network = build_network(config)
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 3), dtype=np.uint8)
    scorer = AestheticScorer(network, config, Calibration(), "simulated")
    scores = scorer.score(images)
    assert scores.shape == (3,) and np.ptp(scores) > 0
    tensor = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    batch = PairBatch(tensor[:1], tensor[1:2], torch.tensor([80.0]), torch.tensor([20.0]))
    AestheticMethod(network, config).train_step(batch, 0).losses["scorer"].backward()
    assert any(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in network.parameters())
    save_scorer(scorer, tmp_path / "aes")
    assert np.allclose(load_scorer(tmp_path).score(images), scores, atol=1e-3)


def test_training_lowers_the_loss_of_the_score_bins(model: Path) -> None:
    config = AesConfig(backbone="vision_language", pretrained=str(model), side_px=28, members=1)
    network, rng = build_network(config), np.random.default_rng(0)
    method = AestheticMethod(network, config)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    history = []
    for step in range(25):
        better, worse = (torch.from_numpy(rng.integers(low, low + 80, (4, 3, 28, 28), dtype=np.uint8)) for low in (170, 5))
        found = method.train_step(PairBatch(better, worse, torch.full((4,), 80.0), torch.full((4,), 20.0)), step)
        optimizer.zero_grad()
        found.losses["scorer"].backward()
        optimizer.step()
        history.append(float(found.metrics["aesthetic/bin_loss"]))
    assert np.mean(history[-3:]) < 0.85 * np.mean(history[:3])


def test_model_without_score_tokens_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one token for each of the 101 score words"):
        load_vision_language_scorer(str(write_model(tmp_path, score_words()[:-1])))


def test_missing_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"aes\.pretrained: cannot be loaded"):
        load_vision_language_scorer(str(tmp_path / "nothing"))
