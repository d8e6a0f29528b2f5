"""Experts on one frozen base: off means the base bit for bit, saved files mean the same to diffusers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import ErnieImageTransformer2DModel
from torch import Tensor

from imagewright.config.model import ModelConfig
from imagewright.models.adapters import TARGETS, WEIGHTS_FILE, AdapterError, activate, attach, base_only, load_adapter, save_adapter
from imagewright.models.diffusers_adapter import save_transformer
from imagewright.models.dit import ErnieImageDiT
from imagewright.models.packing import Pack, pack_samples

SHAPE = ModelConfig(
    hidden_size=32,
    num_layers=2,
    num_attention_heads=2,
    ffn_hidden_size=48,
    in_channels=8,
    out_channels=8,
    text_in_dim=16,
    rope_axes_dim=(4, 6, 6),
)


def make_model(shape: ModelConfig = SHAPE) -> ErnieImageDiT:
    torch.manual_seed(0)
    model = ErnieImageDiT(shape)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
    return model


def make_pack() -> Pack:
    generator = torch.Generator().manual_seed(1)
    latents = [torch.randn(8, 4, 6, generator=generator), torch.randn(8, 3, 2, generator=generator)]
    prompts = [torch.randn(5, 16, generator=generator), torch.randn(2, 16, generator=generator)]
    return pack_samples(latents, prompts, torch.tensor([700.0, 120.0]))


def trained(model: ErnieImageDiT, name: str, seed: int) -> ErnieImageDiT:
    """Attaches an adapter and moves it away from its start, which changes nothing."""
    attach(model, name, rank=4, alpha=12.0)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if f".{name}." in key:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


def test_off_is_the_base_bit_for_bit_and_on_is_not() -> None:
    pack = make_pack()
    base = make_model()(pack)
    model = trained(make_model(), "flat", 2)
    assert (model(pack) - base).abs().mean() > 0.01
    with base_only(model):
        assert torch.equal(model(pack), base)
    assert not torch.equal(model(pack), base)


def test_a_fresh_adapter_changes_nothing_and_is_all_that_trains() -> None:
    model = make_model()
    base = model(make_pack())
    attach(model, "flat", rank=4, alpha=8.0)
    torch.testing.assert_close(model(make_pack()), base)
    assert {name.split(".")[-3] for name, parameter in model.named_parameters() if parameter.requires_grad} == {"lora_A", "lora_B"}


def test_switching_experts_switches_the_output_and_what_trains() -> None:
    pack = make_pack()
    model = trained(trained(make_model(), "flat", 2), "dark", 3)
    dark: Tensor = model(pack)
    activate(model, "flat")
    flat = model(pack)
    assert (flat - dark).abs().mean() > 0.01
    assert all(".flat." in name for name, parameter in model.named_parameters() if parameter.requires_grad)
    alone = trained(make_model(), "flat", 2)(pack)
    torch.testing.assert_close(flat, alone)


def test_diffusers_reads_the_file_with_its_alpha(tmp_path: Path) -> None:
    pack = make_pack()
    model = trained(make_model(), "flat", 2)
    save_adapter(model, "flat", tmp_path / "flat")
    save_transformer(make_model(), tmp_path / "transformer")
    theirs = ErnieImageTransformer2DModel.from_pretrained(str(tmp_path / "transformer"))
    theirs.load_lora_adapter(str(tmp_path / "flat"), weight_name="pytorch_lora_weights.safetensors", use_safetensors=True)
    ours, noisy = pack.unpack(model(pack)), pack.unpack(pack.image_tokens)
    texts = pack.text_tokens.split(list(pack.text_lengths))
    for latent, sample, text, timestep in zip(ours, noisy, texts, pack.timesteps, strict=True):
        expected = theirs(sample[None], timestep[None], text[None], torch.tensor([len(text)]), return_dict=False)[0][0]
        torch.testing.assert_close(latent, expected, atol=1e-5, rtol=1e-4)


def test_an_expert_comes_back_from_its_folder(tmp_path: Path) -> None:
    pack = make_pack()
    model = trained(make_model(), "flat", 2)
    save_adapter(model, "flat", tmp_path)
    again = make_model()
    load_adapter(again, "flat", tmp_path)
    assert torch.equal(again(pack), model(pack))


def test_the_header_of_a_saved_expert_does_not_depend_on_the_process(tmp_path: Path) -> None:
    """Neither on its hash seed, which orders sets, nor on the order in which the library writes: both differ from start to start."""
    save_adapter(trained(make_model(), "flat", 2), "flat", tmp_path)
    content = (tmp_path / WEIGHTS_FILE).read_bytes()
    text = content[8 : 8 + int.from_bytes(content[:8], "little")]
    header = json.loads(text)
    assert text.rstrip() == json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    assert len(text) % 8 == 0
    assert len(header["__metadata__"]) == 2
    settings = json.loads(header["__metadata__"]["lora_adapter_metadata"])
    assert settings["transformer.target_modules"] == sorted(TARGETS)


def test_an_expert_of_another_base_is_refused(tmp_path: Path) -> None:
    save_adapter(trained(make_model(), "flat", 2), "flat", tmp_path)
    other = SHAPE.model_copy(update={"hidden_size": 64, "rope_axes_dim": (8, 12, 12)})
    with pytest.raises(AdapterError, match="another width"):
        load_adapter(make_model(other), "flat", tmp_path)
    with pytest.raises(AdapterError, match="cannot be read"):
        load_adapter(make_model(), "flat", tmp_path / "none")
    with pytest.raises(AdapterError, match="not attached"):
        activate(make_model(), "flat")
