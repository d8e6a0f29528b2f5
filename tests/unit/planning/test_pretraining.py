"""What a plan says, and which plans it refuses."""

from __future__ import annotations

import pytest

from imagewright.config import Config, load_recipe
from imagewright.planning.flops import num_parameters
from imagewright.planning.pretraining import PlanError, checkpoint_bytes, plan_pretraining, state_bytes

GIB = 2.0**30


def released() -> Config:
    config = load_recipe("ernie_8b")
    assert isinstance(config, Config)
    return config


def plan(config: Config, **request: object) -> dict[str, str]:
    arguments = {"gpu": "h100", "num_gpus": 64, **request}
    return {line.name: line.value for line in plan_pretraining(config.model, config.pretrain, config.training, **arguments)}  # type: ignore[arg-type]


def test_the_released_model_on_64_gpus() -> None:
    lines = plan(released(), price_per_gpu_hour=2.0)
    assert lines["parameters"] == "8,033,490,048"
    assert lines["checkpoint"] == "119.7 GiB"
    hours = float(lines["GPU hours"].replace(",", ""))
    assert float(lines["cost"].replace(",", "")) == pytest.approx(2.0 * hours, abs=2)
    assert float(lines["days"].replace(",", "")) == pytest.approx(hours / 64 / 24, abs=0.1)


def test_zero_shards_what_its_stage_says() -> None:
    config = released()
    count = num_parameters(config.model)
    stages = [config.training.model_copy(update={"zero_stage": stage}) for stage in (1, 2, 3)]
    found = [state_bytes(config.model, training, 8) / count for training in stages]
    assert found == pytest.approx([2 + 4 + 16 / 8, 2 + 20 / 8, 22 / 8])


def test_moments_in_8_bits_save_six_bytes_a_parameter() -> None:
    config = released()
    count = num_parameters(config.model)
    plain = config.training.model_copy(update={"engine": "torch"})
    small = plain.model_copy(update={"optimizer": "adamw_8bit"})
    saved = (state_bytes(config.model, plain, 1) - state_bytes(config.model, small, 1)) / count
    assert saved == pytest.approx(6.0 - 8.0 / 256)


def test_muon_keeps_four_bytes_a_block_weight_in_memory_and_in_the_checkpoint() -> None:
    config = released()
    plain = config.training.model_copy(update={"engine": "torch"})
    muon = plain.model_copy(update={"optimizer": "muon"})
    saved = 4 * 36 * (4 * 4096**2 + 3 * 4096 * 12288)
    assert state_bytes(config.model, plain, 1) - state_bytes(config.model, muon, 1) == saved
    assert checkpoint_bytes(config.model, plain) == 16 * num_parameters(config.model)
    assert checkpoint_bytes(config.model, plain) - checkpoint_bytes(config.model, muon) == saved


def test_a_plan_that_does_not_fit_is_refused_with_its_numbers() -> None:
    config = released()
    alone = config.model_copy(update={"training": config.training.model_copy(update={"engine": "torch", "zero_stage": 1})})
    with pytest.raises(PlanError, match=r"plan\.memory: needs 149\.6 GiB of state"):
        plan(alone)


def test_packs_that_do_not_divide_are_refused_for_every_stage() -> None:
    with pytest.raises(PlanError) as caught:
        plan(released(), num_gpus=60, mfu=0.0)
    assert caught.value.problems[0].key == "--mfu"
    assert len(caught.value.problems) == 4


def test_an_unknown_gpu_names_those_known() -> None:
    with pytest.raises(PlanError, match="one of a100, h100, h200"):
        plan(released(), gpu="h1000")


def test_the_small_recipe_fits_one_gpu_of_80_gb() -> None:
    config = load_recipe("small")
    assert isinstance(config, Config)
    lines = plan(config, num_gpus=1)
    assert 200e6 < float(lines["parameters"].replace(",", "")) < 400e6
    state, activations = (float(lines[f"memory per GPU: {name}"].removesuffix(" GiB")) for name in ("state", "activations"))
    assert state + activations < 0.6 * 80, "the text encoder and the autoencoder need room too"
    # The released autoencoder fits by path.
    assert config.model.in_channels == config.vae.packed_channels == 128 and config.vae.stride == 16
