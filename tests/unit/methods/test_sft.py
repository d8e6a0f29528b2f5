"""Fine-tuning lowers its domains' loss, every expert knows whether it beats the model it grew from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pretrain_cases import BATCHING, MODEL, TRAINING, settings, write_latents

from imagewright.config.pretrain import PretrainStage
from imagewright.config.sft import ExpertConfig, SftConfig, SftVariant
from imagewright.methods.pretrain_run import run_pretraining
from imagewright.methods.sft import SftError, SftRun, best_weights, gain_of, merge_weights, run_sft
from imagewright.models.adapters import attach, fused, load_adapter
from imagewright.models.diffusers_adapter import load_transformer
from imagewright.models.dit import ErnieImageDiT
from imagewright.models.packing import pack_samples
from imagewright.tracking.job_run import NullRun


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    run_pretraining(settings(folder), folder / "out", NullRun())
    return folder / "out"


def sft_run(folder: Path, base: Path, domains: tuple[str, ...] = ("c0", "c1"), steps: int = 30) -> SftRun:
    data = folder / "data"
    if not data.exists():
        write_latents(data)
    stage = PretrainStage(steps=steps, learning_rate=5e-3, batching=BATCHING)
    config = SftConfig(domains=domains, stage=stage, experts=ExpertConfig(rank=4, alpha=8.0, stage=stage), validation_samples=4)
    return SftRun(config, TRAINING, base, "b" * 64, data, folder / "work", 0)


def test_sft_lowers_the_loss_of_every_domain_and_writes_one_expert_each(tmp_path: Path, base: Path) -> None:
    metrics = run_sft(sft_run(tmp_path, base), tmp_path / "out", NullRun())
    for domain in ("c0", "c1"):
        assert metrics[f"sft/validation_loss_{domain}"] < metrics[f"sft/validation_loss_before_{domain}"]
    told = json.loads((tmp_path / "out" / "experts" / "experts.json").read_text())
    assert set(told) == {"c0", "c1"}
    assert all(expert["low"] <= expert["gain"] <= expert["high"] for expert in told.values())
    model = load_transformer(tmp_path / "out" / "ema")
    for domain in told:
        load_adapter(model, domain, tmp_path / "out" / "experts" / domain)
    about = json.loads((tmp_path / "out" / "training.json").read_text())
    assert (about["method"], about["parent_digest"]) == ("sft", "b" * 64)


def test_data_without_the_domains_is_refused(tmp_path: Path, base: Path) -> None:
    with pytest.raises(SftError, match="not all in the data"):
        run_sft(sft_run(tmp_path, base, ("c0", "c1", "c2")), tmp_path / "out", NullRun())


def test_a_gain_has_an_interval_and_noise_does_not_teach() -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(1, 2, 200)
    better = gain_of(base, base * 0.9, 0)
    assert better.value == pytest.approx(0.1)
    assert better.teaches(0.0)
    assert not gain_of(base, base + rng.normal(0, 0.1, 200), 0).teaches(0.0)
    assert not gain_of(np.zeros(0), np.zeros(0), 0).teaches(0.0)


def test_a_fused_adapter_is_the_network_that_carried_it() -> None:
    torch.manual_seed(0)
    model = ErnieImageDiT(MODEL)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    plain = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    attach(model, "sft", rank=2, alpha=6.0)
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    latents, text = [torch.randn(MODEL.in_channels, 2, 3)], [torch.randn(4, MODEL.text_in_dim)]
    pack = pack_samples(latents, text, torch.tensor([500.0]))
    other = ErnieImageDiT(MODEL)
    trained = {name: parameter.detach() for name, parameter in model.named_parameters()}
    other.load_state_dict(fused(plain, trained, "sft", 3.0))
    with torch.no_grad():
        expected = model(pack)
        torch.testing.assert_close(other(pack), expected, rtol=1e-4, atol=1e-5)
        other.load_state_dict(fused(plain, trained, "sft", 1.0))
        assert (other(pack) - expected).abs().max() > 1e-3


def test_lora_changes_the_attention_alone_and_leaves_a_plain_model(tmp_path: Path, base: Path) -> None:
    settings = sft_run(tmp_path, base)
    settings = replace(settings, sft=settings.sft.model_copy(update={"lora_rank": 4, "lora_alpha": 8.0}))
    metrics = run_sft(settings, tmp_path / "out", NullRun())
    before = load_transformer(base / "ema").state_dict()
    for folder in ("transformer", "ema"):
        after = load_transformer(tmp_path / "out" / folder).state_dict()
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert changed
        assert all(name.rsplit(".", 1)[0].endswith(("to_q", "to_k", "to_v", "to_out.0")) for name in changed)
    for domain in ("c0", "c1"):
        assert metrics[f"sft/validation_loss_{domain}"] < metrics[f"sft/validation_loss_before_{domain}"]


def test_an_earlier_variant_of_the_same_base_is_averaged_in(tmp_path: Path, base: Path) -> None:
    own, earlier = sft_run(tmp_path, base, steps=4), replace(sft_run(tmp_path, base, steps=4), seed=1, work=tmp_path / "work-1")
    run_sft(own, tmp_path / "own", NullRun())
    run_sft(earlier, tmp_path / "earlier", NullRun())
    merge = (SftVariant(payload="a" * 64, weight=0.25),)
    settings = replace(own, sft=own.sft.model_copy(update={"merge": merge}), variants=((tmp_path / "earlier", 0.25),))
    metrics = run_sft(settings, tmp_path / "merged", NullRun())
    states = [load_transformer(best_weights(tmp_path / name)).state_dict() for name in ("own", "earlier", "merged")]
    for name, tensor in states[2].items():
        torch.testing.assert_close(tensor, 0.75 * states[0][name] + 0.25 * states[1][name])
    assert metrics["sft/validation_loss_unmerged_c0"] != metrics["sft/validation_loss_c0"]
    assert json.loads((tmp_path / "merged" / "training.json").read_text())["merged"] == {"a" * 64: 0.25}
    with pytest.raises(SftError, match="fine-tunings of the same base"):
        run_sft(replace(settings, base_digest="c" * 64, work=tmp_path / "work-2"), tmp_path / "wrong", NullRun())


def test_merging_is_the_weighted_mean_and_weights_must_sum_to_one() -> None:
    first, second = {"w": torch.tensor([0.0, 4.0])}, {"w": torch.tensor([2.0, 0.0])}
    torch.testing.assert_close(merge_weights([first, second], [0.25, 0.75])["w"], torch.tensor([1.5, 1.0]))
    torch.testing.assert_close(merge_weights([first], [1.0])["w"], first["w"])
    for weights in ([0.5, 0.6], [1.0]):
        with pytest.raises(SftError, match="sum to 1"):
            merge_weights([first, second], weights)
    with pytest.raises(SftError, match="variants of one model"):
        merge_weights([first, {"v": torch.zeros(2)}], [0.5, 0.5])
