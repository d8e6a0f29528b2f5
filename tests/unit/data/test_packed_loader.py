"""What training receives from the loader: every drawn sample once, at any world size, after any resume."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from imagewright.config.batching import BatchingConfig
from imagewright.data.latents import EncodedCaption, LatentsContract, LatentsDataset, LatentsWriter
from imagewright.data.latents_layout import data_path
from imagewright.data.packed_loader import Batch, LoaderError, PackedLoader

CONTRACT = LatentsContract(stride=16, channels=4, text_dim=3, max_tokens=16)
BATCHING = BatchingConfig(pack_tokens=120, packs_per_step=4, lookahead=16, caption_dropout=0.2)


def write(folder: Path, num: int = 60, weight: float = 1.0) -> LatentsDataset:
    random = np.random.default_rng(0)
    with LatentsWriter(folder, CONTRACT, torch.ones(1, 3)) as writer:
        for index in range(num):
            captions = [EncodedCaption(form, torch.randn(int(random.integers(1, 17)), 3)) for form in ("long", "tags")]
            latents = torch.randn(4, int(random.integers(2, 7)), int(random.integers(2, 7)))
            writer.add(f"k{index}", latents, captions, category=f"c{index % 3}", sampling_weight=weight)
    return LatentsDataset(folder)


def loader(dataset: LatentsDataset, rank: int = 0, world_size: int = 1, config: BatchingConfig = BATCHING) -> PackedLoader:
    return PackedLoader(dataset, config, seed=7, rank=rank, world_size=world_size)


def seeds(batches: list[Batch]) -> list[int]:
    return [seed for batch in batches for seed in batch.noise_seeds]


def test_an_epoch_gives_every_sample_exactly_once(tmp_path: Path) -> None:
    stream = loader(write(tmp_path), config=BATCHING.model_copy(update={"packs_per_step": 1}))
    counts: Counter[str] = Counter()
    while stream.epoch == 0:
        batch = stream.next_step()[0]
        if stream.epoch == 0:
            counts.update(batch.sample_keys)
    assert set(counts.values()) == {1}
    assert len(counts) == 60


def test_a_resume_at_any_step_gives_the_same_batches(tmp_path: Path) -> None:
    dataset = write(tmp_path)
    whole = loader(dataset)
    states, steps = [], []
    for _ in range(12):
        states.append(whole.state())
        steps.append(whole.next_step())
    for number in (0, 3, 7, 11):
        resumed = loader(dataset)
        resumed.load_state(states[number])
        again = resumed.next_step()
        assert seeds(again) == seeds(steps[number])
        for batch, earlier in zip(again, steps[number], strict=True):
            assert all(torch.equal(a, b) for a, b in zip(batch.latents, earlier.latents, strict=True))
            assert all(torch.equal(a, b) for a, b in zip(batch.prompt_embeds, earlier.prompt_embeds, strict=True))


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_samples_of_a_step_do_not_depend_on_the_world_size(tmp_path: Path, world_size: int) -> None:
    dataset = write(tmp_path)
    one = loader(dataset)
    ranks = [loader(dataset, rank, world_size) for rank in range(world_size)]
    for _ in range(8):
        together = [seed for rank in ranks for seed in seeds(rank.next_step())]
        assert sorted(together) == sorted(seeds(one.next_step()))
    assert len({tuple(rank.state().items()) for rank in ranks}) == 1


def test_no_pack_exceeds_its_budget(tmp_path: Path) -> None:
    stream = loader(write(tmp_path))
    for _ in range(10):
        for batch in stream.next_step():
            tokens = sum(x.shape[1] * x.shape[2] for x in batch.latents) + sum(len(x) for x in batch.prompt_embeds)
            assert tokens == batch.num_tokens <= 120


def test_dropped_captions_are_the_encoded_empty_prompt(tmp_path: Path) -> None:
    stream = loader(write(tmp_path), config=BATCHING.model_copy(update={"caption_dropout": 1.0}))
    for batch in stream.next_step():
        assert all(torch.equal(embeds, torch.ones(1, 3).bfloat16()) for embeds in batch.prompt_embeds)


def test_a_form_of_weight_zero_is_not_used(tmp_path: Path) -> None:
    dataset = write(tmp_path)
    config = BATCHING.model_copy(update={"caption_forms": {"tags": 0.0}, "caption_dropout": 0.0})
    stream = loader(dataset, config=config)
    for _ in range(5):
        assert all(entry.caption == 0 for entry in stream.next_pack())


def test_a_corrupt_sample_is_left_out_quarantined_and_counted(tmp_path: Path) -> None:
    dataset = write(tmp_path)
    path = data_path(tmp_path, 0)
    content = bytearray(path.read_bytes())
    content[int(dataset.samples[5]["offset"])] ^= 1
    path.write_bytes(content)
    told: list[str] = []
    stream = PackedLoader(LatentsDataset(tmp_path), BATCHING, seed=7, on_corrupt=told.append)
    seen: Counter[str] = Counter()
    while stream.epoch < 2:
        for batch in stream.next_step():
            seen.update(batch.sample_keys)
    assert "k5" not in seen
    assert stream.quarantined == {"k5"}
    assert told == ["k5"]


def test_a_pack_that_lost_all_its_samples_keeps_a_stand_in_that_does_not_count(tmp_path: Path) -> None:
    write(tmp_path, num=1)
    path = data_path(tmp_path, 0)
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    (batch,) = loader(LatentsDataset(tmp_path), config=BATCHING.model_copy(update={"packs_per_step": 1})).next_step()
    assert len(batch) == 1
    assert batch.num_samples == 0


def test_a_budget_below_the_largest_sample_is_refused_and_at_it_accepted(tmp_path: Path) -> None:
    dataset = write(tmp_path)
    tokens = [int(row["height"]) * int(row["width"]) for row in dataset.samples]
    largest = max(size + int(dataset.captions["tokens"][2 * at : 2 * at + 2].max()) for at, size in enumerate(tokens))
    loader(dataset, config=BATCHING.model_copy(update={"pack_tokens": largest}))
    with pytest.raises(LoaderError, match=f"at least {largest}"):
        loader(dataset, config=BATCHING.model_copy(update={"pack_tokens": largest - 1}))


def test_packs_that_cannot_be_dealt_evenly_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LoaderError, match="multiple of 3 ranks"):
        loader(write(tmp_path), world_size=3)


def test_weights_that_are_all_zero_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LoaderError, match="must not all be 0"):
        loader(write(tmp_path, weight=0.0))


@pytest.mark.parametrize("state", [{"epoch": 0, "window": 99, "pack": 0}, {"epoch": 0}, {"epoch": -1, "window": 0, "pack": 0}])
def test_a_position_that_does_not_fit_the_data_is_refused(tmp_path: Path, state: dict[str, int]) -> None:
    with pytest.raises(LoaderError, match="does not fit"):
        loader(write(tmp_path)).load_state(state)


def test_held_out_samples_are_never_drawn(tmp_path: Path) -> None:
    stream = PackedLoader(write(tmp_path), BATCHING, seed=7, held_out=frozenset({0, 59}))
    seen: set[str] = set()
    while stream.epoch < 3:
        seen.update(key for batch in stream.next_step() for key in batch.sample_keys)
    assert len(seen) == 58
    assert not seen & {"k0", "k59"}
