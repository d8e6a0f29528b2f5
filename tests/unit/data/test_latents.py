"""What training sees of encoded samples, and what it refuses to see."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from imagewright.data.latents import (
    CorruptSampleError,
    EncodedCaption,
    LatentsContract,
    LatentsDataset,
    LatentsError,
    LatentsWriter,
)
from imagewright.data.latents_layout import CONTRACT_FILE, data_path

CONTRACT = LatentsContract(vae_digest="a" * 64, stride=16, channels=8, text_encoder_class="Encoder", text_dim=6, max_tokens=12)


def caption(tokens: int, form: str = "long", seed: int = 0) -> EncodedCaption:
    return EncodedCaption(form, torch.randn(tokens, 6, generator=torch.Generator().manual_seed(seed)).bfloat16())


def latents(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(8, height, width, generator=torch.Generator().manual_seed(seed)).bfloat16()


def write(folder: Path, contract: LatentsContract = CONTRACT, num_samples: int = 5, file_bytes: int = 1 << 30) -> Path:
    with LatentsWriter(folder, contract, torch.ones(1, 6), file_bytes=file_bytes) as writer:
        for index in range(num_samples):
            captions = [caption(3 + index, "long", index), caption(2, "tags", 100 + index)]
            writer.add(f"key-{index}", latents(2 + index, 3, index), captions, category=f"c{index % 2}", sampling_weight=1.0 + index)
    return folder


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_what_was_written_is_read_back_exactly(tmp_path: Path) -> None:
    dataset = LatentsDataset(write(tmp_path, file_bytes=512))
    assert len(dataset) == 5
    assert len(dataset.index.data_files) > 1
    sample = dataset.read(3, 1)
    assert (sample.sample_key, sample.form, sample.category) == ("key-3", "tags", "c1")
    assert torch.equal(sample.latents, latents(5, 3, 3))
    assert torch.equal(sample.prompt_embeds, caption(2, "tags", 103).prompt_embeds)
    assert torch.equal(dataset.read(3, -1).prompt_embeds, torch.ones(1, 6).bfloat16())
    assert dataset.verify() == []


def test_fp32_is_kept_exactly(tmp_path: Path) -> None:
    contract = CONTRACT.model_copy(update={"dtype": "float32"})
    values = torch.randn(8, 2, 2)
    with LatentsWriter(tmp_path, contract, torch.full((2, 6), 0.1)) as writer:
        writer.add("k", values, [caption(1)])
    dataset = LatentsDataset(tmp_path)
    assert torch.equal(dataset.read(0).latents, values)
    assert torch.equal(dataset.empty_prompt, torch.full((2, 6), 0.1))


def test_any_flipped_bit_of_a_sample_is_found_before_it_is_used(tmp_path: Path) -> None:
    write(tmp_path, num_samples=1)
    path = data_path(tmp_path, 0)
    payload = range(0, 8 * 2 * 3 * 2 * 8, 97)  # bits of the latents
    for bit in payload:
        flip(path, bit)
        with pytest.raises(CorruptSampleError, match="key-0"):
            LatentsDataset(tmp_path).read(0)
        flip(path, bit)
    assert LatentsDataset(tmp_path).verify() == []


def test_verify_names_the_corrupt_sample(tmp_path: Path) -> None:
    write(tmp_path)
    dataset = LatentsDataset(tmp_path)
    flip(data_path(tmp_path, 0), int(dataset.samples[2]["offset"]) * 8)
    assert LatentsDataset(tmp_path).verify() == ["key-2"]


@pytest.mark.parametrize("name", ["samples.npy", "captions.npy", "keys.npy"])
def test_a_damaged_index_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path)
    flip(tmp_path / name, 8 * 130)
    with pytest.raises(LatentsError, match=name):
        LatentsDataset(tmp_path)


def test_a_cut_data_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    path = data_path(tmp_path, 0)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(LatentsError, match="must have"):
        LatentsDataset(tmp_path)


def test_a_folder_whose_writer_was_killed_is_refused(tmp_path: Path) -> None:
    writer = LatentsWriter(tmp_path, CONTRACT, torch.ones(1, 6))
    writer.add("k", latents(2, 2), [caption(1)])
    with pytest.raises(LatentsError, match="not a finished folder"):
        LatentsDataset(tmp_path)


def test_an_empty_folder_of_latents_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LatentsError, match="at least one sample"):
        LatentsDataset(write(tmp_path, num_samples=0))


def test_a_contract_that_is_not_json_is_refused(tmp_path: Path) -> None:
    (write(tmp_path) / CONTRACT_FILE).write_text("{")
    with pytest.raises(LatentsError, match="cannot be read"):
        LatentsDataset(tmp_path)


def test_latents_of_another_vae_are_refused_with_every_difference() -> None:
    with pytest.raises(LatentsError) as caught:
        CONTRACT.require(vae_digest="b" * 64, channels=128, text_dim=6)
    assert {problem.key for problem in caught.value.problems} == {"latents.vae_digest", "latents.channels"}
    CONTRACT.require(vae_digest="a" * 64, channels=8)


def test_samples_that_break_the_contract_are_refused_when_written(tmp_path: Path) -> None:
    writer = LatentsWriter(tmp_path, CONTRACT, torch.ones(1, 6))
    with pytest.raises(LatentsError, match=r"\[8, h, w\]"):
        writer.add("k", torch.zeros(4, 2, 2), [caption(1)])
    with pytest.raises(LatentsError, match="finite"):
        writer.add("k", torch.full((8, 2, 2), float("nan")), [caption(1)])
    with pytest.raises(LatentsError, match="at least one caption"):
        writer.add("k", latents(2, 2), [])
    with pytest.raises(LatentsError, match=r"1\.\.12"):
        writer.add("k", latents(2, 2), [caption(13)])
    writer.add("k", latents(2, 2), [caption(12)])
    with pytest.raises(LatentsError, match="already"):
        writer.add("k", latents(2, 2), [caption(1)])


def test_a_resolution_takes_every_aspect_of_its_area_and_a_missing_one_names_those_present(tmp_path: Path) -> None:
    with LatentsWriter(tmp_path, CONTRACT, torch.ones(1, 6)) as writer:
        for index, (height, width) in enumerate([(4, 4), (2, 8), (8, 8), (16, 4)]):
            writer.add(f"k{index}", latents(height, width), [caption(1)])
    dataset = LatentsDataset(tmp_path)
    assert dataset.at_resolution(64).tolist() == [0, 1]
    assert dataset.at_resolution(128).tolist() == [2, 3]
    with pytest.raises(LatentsError, match=r"near 512 px; received \[64, 128\]"):
        dataset.at_resolution(512)
