"""Prompts without images: alike for all turns of a round, alike after a resume, other ones after a roll-back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from imagewright.data.latents import EncodedCaption, LatentsContract, LatentsDataset, LatentsWriter
from imagewright.data.prompt_loader import PromptLoader, TurnCounter


@pytest.fixture
def dataset(tmp_path: Path) -> LatentsDataset:
    contract = LatentsContract(vae_digest="v" * 64, stride=16, channels=2, text_dim=4, max_tokens=4)
    with LatentsWriter(tmp_path, contract, torch.zeros(1, 4)) as writer:
        for index in range(40):
            domain = "rare" if index < 2 else "common"
            captions = [EncodedCaption("long", torch.full((1, 4), float(index)))]
            writer.add(f"k{index}", torch.zeros(2, 2, 3), captions, category=domain, sampling_weight=float(index != 5))
    return LatentsDataset(tmp_path)


def loader(dataset: LatentsDataset, turns: int = 3, **changes: int) -> PromptLoader:
    return PromptLoader(dataset, TurnCounter(turns), **{"count": 6, "seed": 1, **changes})  # type: ignore[arg-type]


def test_a_round_keeps_its_prompts_and_the_next_brings_others(dataset: LatentsDataset) -> None:
    source = loader(dataset)
    batches = [source.next_step()[0] for _ in range(6)]
    assert [batch.turn for batch in batches] == [0, 1, 2, 0, 1, 2]
    assert len({batch.noise_seeds for batch in batches[:3]}) == 1
    assert batches[0].noise_seeds != batches[3].noise_seeds


def test_domains_are_drawn_alike_and_weightless_samples_never(dataset: LatentsDataset) -> None:
    batch = loader(dataset, count=400).next_step()[0]
    assert 140 < batch.domains.count("rare") < 260
    assert not any(float(prompt[0, 0]) == 5.0 for prompt in batch.prompt_embeds)
    assert set(batch.sizes) == {(2, 3)}


def test_processes_get_prompts_of_their_own(dataset: LatentsDataset) -> None:
    assert loader(dataset).next_step()[0].noise_seeds != loader(dataset, rank=1).next_step()[0].noise_seeds


def test_a_resume_in_mid_round_repeats_the_prompts_and_a_roll_back_does_not(dataset: LatentsDataset) -> None:
    whole = loader(dataset)
    seen = [whole.next_step()[0] for _ in range(5)]
    saved = whole.state()
    resumed = loader(dataset)
    resumed.counter.put_back(5)
    resumed.load_state(saved)
    again = resumed.next_step()[0]
    assert (again.turn, again.noise_seeds) == (2, seen[4].noise_seeds)
    rolled = loader(dataset)
    for _ in range(5):
        rolled.next_step()
    rolled.counter.put_back(1)
    fresh = rolled.next_step()[0]
    assert fresh.turn == 1
    assert fresh.noise_seeds not in {batch.noise_seeds for batch in seen}
