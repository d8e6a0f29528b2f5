"""Folders written by diffusers load here, ours load in diffusers, and a damaged folder is refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import ErnieImageTransformer2DModel
from dit_cases import TINY, Case, build_pair, flat, run_reference

from imagewright.models.diffusers_adapter import ModelFolderError, load_transformer, save_transformer
from imagewright.models.dit import ErnieImageDiT

SHARDED = "40KB"


@pytest.mark.parametrize("shard", ["10GB", SHARDED])
def test_our_folder_loads_in_diffusers(tmp_path: Path, mixed_case: Case, shard: str) -> None:
    ours, _ = build_pair(TINY)
    save_transformer(ours, tmp_path, max_shard_size=shard)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shard == SHARDED)
    theirs = ErnieImageTransformer2DModel.from_pretrained(tmp_path)
    pack = mixed_case.pack()
    torch.testing.assert_close(flat(pack.unpack(ours(pack))), flat(run_reference(theirs, mixed_case)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shard", ["10GB", SHARDED])
def test_a_folder_of_diffusers_loads_here(tmp_path: Path, shard: str) -> None:
    _, theirs = build_pair(TINY)
    theirs.save_pretrained(tmp_path, max_shard_size=shard)
    ours = load_transformer(tmp_path)
    assert ours.config == TINY
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in ours.state_dict().items())
    assert all(parameter.requires_grad and parameter.device.type == "cpu" for parameter in ours.parameters())


def test_config_and_file_names_are_those_that_diffusers_writes(tmp_path: Path) -> None:
    ours, theirs = build_pair(TINY)
    save_transformer(ours, tmp_path / "ours", max_shard_size=SHARDED)
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size=SHARDED)
    assert sorted(path.name for path in (tmp_path / "ours").iterdir()) == sorted(path.name for path in (tmp_path / "theirs").iterdir())
    for name in ("config.json", "diffusion_pytorch_model.safetensors.index.json"):
        assert json.loads((tmp_path / "ours" / name).read_text()) == json.loads((tmp_path / "theirs" / name).read_text())


def test_dtype_converts_while_loading(tmp_path: Path) -> None:
    save_transformer(ErnieImageDiT(TINY), tmp_path)
    assert load_transformer(tmp_path, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_the_moving_average_can_be_saved_in_place_of_the_weights(tmp_path: Path) -> None:
    model = ErnieImageDiT(TINY)
    save_transformer(model, tmp_path, state={name: tensor + 1 for name, tensor in model.state_dict().items()})
    assert torch.equal(load_transformer(tmp_path).final_linear.bias, model.final_linear.bias + 1)


def test_adapters_must_be_merged_before_saving(tmp_path: Path) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    model = inject_adapter_in_model(LoraConfig(r=2, target_modules=["to_q"]), ErnieImageDiT(TINY))
    with pytest.raises(ModelFolderError, match="merge or remove adapters"):
        save_transformer(model, tmp_path)


def damage_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    for name, value in changes.items():
        if value is None:
            del config[name]
        else:
            config[name] = value
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_layers": 3}, "lacks tensors"),
        ({"num_layers": 1}, "holds unknown tensors"),
        ({"in_channels": 9, "out_channels": 9}, r"x_embedder.proj.weight: must have shape \(64, 9, 1, 1\)"),
        ({"hidden_size": 66}, "even multiple"),
        ({"rope_theta": None}, "rope_theta: is required"),
        ({"_class_name": "FluxTransformer2DModel"}, "must be ErnieImageTransformer2DModel"),
        ({"joint_attention_dim": 4}, "unknown key"),
    ],
)
def test_a_folder_of_another_architecture_is_refused(tmp_path: Path, changes: dict, message: str) -> None:
    save_transformer(ErnieImageDiT(TINY), tmp_path)
    damage_config(tmp_path, **changes)
    with pytest.raises(ModelFolderError, match=message):
        load_transformer(tmp_path)


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    save_transformer(ErnieImageDiT(TINY), tmp_path)
    weights = tmp_path / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ModelFolderError, match="cut short or damaged"):
        load_transformer(tmp_path)


def test_a_missing_shard_or_one_outside_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "transformer"
    save_transformer(ErnieImageDiT(TINY), folder, max_shard_size=SHARDED)
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    shard = next(folder.glob("*.safetensors"))
    (tmp_path / "outside.safetensors").write_bytes(shard.read_bytes())
    text = index.read_text()
    index.write_text(text.replace(shard.name, "../outside.safetensors"))
    with pytest.raises(ModelFolderError, match="must name safetensors files of this folder"):
        load_transformer(folder)
    index.write_text(text)
    shard.unlink()
    with pytest.raises(ModelFolderError, match="must name safetensors files of this folder"):
        load_transformer(folder)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match=r"config.json: cannot be read"):
        load_transformer(tmp_path)
