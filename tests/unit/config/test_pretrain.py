"""Base training may use an optimizer of its own; what the engine cannot run is refused when the configuration is read."""

import pytest
from pydantic import ValidationError

from imagewright.config import Config
from imagewright.config.pretrain import PretrainConfig
from imagewright.config.training import TrainingConfig


def test_base_training_takes_the_shared_optimizer_unless_it_names_one() -> None:
    training = TrainingConfig(optimizer="adafactor", ema_decay=0.5)
    assert PretrainConfig().training_of(training) == training
    own = PretrainConfig(optimizer="muon", muon_learning_rate_ratio=4.0).training_of(training)
    assert (own.optimizer, own.muon_learning_rate_ratio, own.ema_decay) == ("muon", 4.0, 0.5)
    assert training.optimizer == "adafactor"


@pytest.mark.parametrize(
    ("training", "pretrain", "said"),
    [
        ({"engine": "deepspeed"}, {"optimizer": "muon"}, "needs engine: torch"),
        ({}, {"muon_learning_rate_ratio": 4.0}, "needs optimizer: muon"),
    ],
)
def test_an_optimizer_that_cannot_run_is_refused_before_anything_does(
    training: dict[str, object], pretrain: dict[str, object], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        Config.model_validate({"training": training, "pretrain": pretrain})
