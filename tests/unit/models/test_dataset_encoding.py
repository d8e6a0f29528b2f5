"""What the encode job leaves on disk, and what it does with work that was cut short."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from fixtures.curated_scenes import write_curated
from torch import Tensor

from imagewright.config.latents import EncodingConfig
from imagewright.config.vae import VaeConfig
from imagewright.data.latents import LatentsDataset, LatentsError
from imagewright.data.manifest import MANIFEST_NAME, read_manifest, write_manifest
from imagewright.data.pixels import kept_rows, load_pixels
from imagewright.errors import InputError
from imagewright.models.dataset_encoding import Encoders, choose_captions, encode_dataset
from imagewright.models.vae import build_vae, encode, freeze, set_statistics
from imagewright.models.vae_training import to_input

VAE = VaeConfig(resolution_px=32, block_out_channels=(8, 8, 8), latent_channels=2, norm_num_groups=4)


class LetterEncoder:
    """A real encoder of one token a word: its length and its first letter."""

    class_name, digest, layer, max_tokens, dim = "LetterEncoder", "0" * 64, -2, 64, 2

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode(self, prompts: Sequence[str]) -> list[Tensor]:
        """[words + 1, 2] per prompt; the first token is the beginning."""
        self.encoded += list(prompts)
        return [
            torch.tensor([[0.0, 0.0], *([float(len(word)), float(ord(word[0]) % 64)] for word in prompt.split())]) for prompt in prompts
        ]


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_curated(tmp_path_factory.mktemp("curated"))


def encoders(seed: int = 0) -> Encoders:
    torch.manual_seed(seed)
    vae = freeze(build_vae(VAE))
    set_statistics(vae, [torch.rand(64, 3, 32, 32) * 2 - 1])
    return Encoders(vae, LetterEncoder())


def quiet(what: str, done: int, total: int) -> None:
    """Shows nothing."""


def test_every_kept_training_sample_is_encoded_and_counted(curated: Path, tmp_path: Path) -> None:
    tools = encoders()
    counts = encode_dataset(EncodingConfig(), curated, tools, tmp_path / "out", tmp_path / "work", quiet)
    rows = kept_rows(curated, ("train", "validation"))
    data = LatentsDataset(tmp_path / "out")
    assert counts["num_in"] == counts["num_kept"] + counts["num_dropped"] == len(rows) == len(data)
    assert {data.sample_key(i) for i in range(len(data))} == {row.sample_key for row in rows}
    assert data.contract == tools.contract("bfloat16")
    assert data.verify() == []


def test_holdouts_never_enter_training_data(curated: Path, tmp_path: Path) -> None:
    encode_dataset(EncodingConfig(), curated, encoders(), tmp_path / "out", tmp_path / "work", quiet)
    data = LatentsDataset(tmp_path / "out")
    held_out = {row.sample_key for row in kept_rows(curated, ("holdout_compositional",))}
    assert held_out
    assert not held_out & {data.sample_key(i) for i in range(len(data))}


def test_stored_numbers_are_those_of_the_encoders(curated: Path, tmp_path: Path) -> None:
    tools = encoders()
    encode_dataset(EncodingConfig(dtype="float32"), curated, tools, tmp_path / "out", tmp_path / "work", quiet)
    data = LatentsDataset(tmp_path / "out")
    rows = {row.sample_key: row for row in kept_rows(curated, ("train", "validation"))}
    pixels = load_pixels(curated, side_px=32, splits=("train", "validation"), limit=100, seed=0)
    images = {row.sample_key: image for row, image in zip(pixels.rows, pixels.images, strict=True)}
    sample = data.read(3, 1)
    expected = encode(tools.vae, to_input(torch.from_numpy(images[sample.sample_key].transpose(2, 0, 1).copy())[None]))[0]
    torch.testing.assert_close(sample.latents, expected, atol=1e-5, rtol=1e-4)
    caption = rows[sample.sample_key].captions[1]
    torch.testing.assert_close(sample.prompt_embeds, LetterEncoder().encode([caption.text])[0])
    assert sample.form == caption.form
    torch.testing.assert_close(data.empty_prompt, torch.zeros(1, 2))


def test_each_caption_is_encoded_once(curated: Path, tmp_path: Path) -> None:
    tools = encoders()
    encode_dataset(EncodingConfig(), curated, tools, tmp_path / "out", tmp_path / "work", quiet)
    assert isinstance(tools.text_encoder, LetterEncoder)
    assert len(tools.text_encoder.encoded) == len(set(tools.text_encoder.encoded))


def test_restarted_job_reuses_finished_chunks_and_writes_the_same_bytes(curated: Path, tmp_path: Path) -> None:
    encode_dataset(EncodingConfig(), curated, encoders(), tmp_path / "a", tmp_path / "work", quiet)
    again = encoders()
    encode_dataset(EncodingConfig(), curated, again, tmp_path / "b", tmp_path / "work", quiet)
    assert isinstance(again.text_encoder, LetterEncoder)
    assert again.text_encoder.encoded == [""]
    assert {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()} == {p.name: p.read_bytes() for p in (tmp_path / "b").iterdir()}


def test_chunks_of_another_autoencoder_are_not_reused(curated: Path, tmp_path: Path) -> None:
    encode_dataset(EncodingConfig(), curated, encoders(0), tmp_path / "a", tmp_path / "work", quiet)
    other = encoders(1)
    encode_dataset(EncodingConfig(), curated, other, tmp_path / "b", tmp_path / "work", quiet)
    assert not torch.equal(LatentsDataset(tmp_path / "a").read(0).latents, LatentsDataset(tmp_path / "b").read(0).latents)
    with pytest.raises(LatentsError, match="vae_digest"):
        LatentsDataset(tmp_path / "a").contract.require(vae_digest=other.contract("bfloat16").vae_digest)


def test_caption_limit_and_language_are_kept(curated: Path) -> None:
    row = kept_rows(curated, ("train",))[0]
    assert len(choose_captions(EncodingConfig(), row)) == len(row.captions)
    two = choose_captions(EncodingConfig(max_captions=2, languages=("en",)), row)
    assert len(two) == 2
    assert {caption.language for caption in two} == {"en"}
    assert two == choose_captions(EncodingConfig(max_captions=2, languages=("en",)), row)


def test_damaged_sample_is_counted_and_the_rest_encoded(tmp_path: Path) -> None:
    curated = write_curated(tmp_path / "curated", 40)
    table = read_manifest(curated)
    broken = next(row for row in kept_rows(curated, ("train",)))
    with (curated / "shards" / broken.shard).open("r+b") as file:
        file.seek(broken.offset)
        file.write(b"garbage")
    write_manifest(curated / MANIFEST_NAME, table)
    counts = encode_dataset(EncodingConfig(), curated, encoders(), tmp_path / "out", tmp_path / "work", quiet)
    assert counts["num_dropped"] == counts["num_dropped_unreadable"] == 1
    assert counts["num_in"] == counts["num_kept"] + 1


def test_nothing_to_encode_is_refused(curated: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one readable image with a caption"):
        encode_dataset(EncodingConfig(languages=("xx",)), curated, encoders(), tmp_path / "out", tmp_path / "work", quiet)
