"""The aesthetic method learns a visible order, and its batches are balanced and repeatable."""

from __future__ import annotations

import numpy as np
import torch

from imagewright.config.aes import AesConfig
from imagewright.methods.aesthetic import SCORER, AestheticMethod, BalancedPairLoader, RatedPairs
from imagewright.models.aesthetic import build_network

TINY = AesConfig(channels=(4, 8), side_px=16, members=1)


def brightness_data(count: int = 40) -> RatedPairs:
    """Grey images; brighter is better."""
    levels = torch.arange(count) * (250 // count)
    images = levels.to(torch.uint8)[:, None, None, None].expand(count, 3, 16, 16).contiguous()
    pairs = np.array([(high, low) for low in range(count) for high in range(low + 1, count)])
    return RatedPairs(images, levels.float() / 2.5, pairs, ["rare" if place < 4 else "common" for place in range(count)])


def test_rare_categories_are_drawn_as_often_as_common_ones() -> None:
    data = brightness_data()
    loader = BalancedPairLoader(data, 32, seed=0)
    scores = torch.cat([loader.next_step()[0].winner_scores for _ in range(20)])
    rare = (scores < data.scores[4]).float().mean().item()
    assert 0.4 < rare < 0.6


def test_a_step_depends_on_the_seed_and_its_number_only() -> None:
    first = BalancedPairLoader(brightness_data(), 8, seed=5)
    first.next_step()
    second = BalancedPairLoader(brightness_data(), 8, seed=5)
    second.load_state(first.state())
    assert torch.equal(first.next_step()[0].winners, second.next_step()[0].winners)


def test_training_orders_images_as_the_votes_do() -> None:
    torch.manual_seed(0)
    data = brightness_data()
    network = build_network(TINY)
    method = AestheticMethod(network, TINY)
    loader = BalancedPairLoader(data, 16, seed=0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for step in range(60):
        output = method.train_step(loader.next_step()[0], step)
        optimizer.zero_grad()
        output.losses[SCORER].backward()
        optimizer.step()
        losses.append(output.losses[SCORER].item())
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:5])
    assert float(output.metrics["aesthetic/pair_accuracy"]) > 0.8


def test_without_the_ranking_loss_only_the_bins_are_trained() -> None:
    torch.manual_seed(0)
    config = TINY.model_copy(update={"ranking_weight": 0.0})
    batch = BalancedPairLoader(brightness_data(), 4, seed=0).next_step()[0]
    output = AestheticMethod(build_network(config), config).train_step(batch, 0)
    assert float(output.losses[SCORER]) == float(output.metrics["aesthetic/bin_loss"])
