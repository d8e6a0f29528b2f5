"""Latents that wait together are decoded together, and each image is the one of its own latent."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future

import numpy as np
import pytest
import torch

from imagewright.config.vae import VaeConfig
from imagewright.models.vae import Autoencoder, build_vae, decode, freeze, set_statistics
from imagewright.serving.decoding import Decoder, to_bytes


@pytest.fixture(scope="module")
def vae() -> Autoencoder:
    torch.manual_seed(0)
    made = freeze(build_vae(VaeConfig(block_out_channels=(8, 8, 16), latent_channels=2, norm_num_groups=4)))
    set_statistics(made, [torch.rand(16, 3, 32, 32) * 2 - 1])
    return made


@pytest.fixture
def decoder(vae: Autoencoder) -> Iterator[Decoder]:
    made = Decoder(vae, max_cells=64)
    yield made
    made.close()


def latents(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(8, *((4, 4), (2, 6))[number % 2], generator=generator) for number in range(count)]


def test_every_latent_gets_its_own_image(vae: Autoencoder, decoder: Decoder) -> None:
    given = latents(10)
    futures = [decoder.submit(latent) for latent in given]
    for latent, future in zip(given, futures, strict=True):
        alone = to_bytes(decode(vae, latent[None]))[0]
        assert np.abs(future.result(60).astype(int) - alone.astype(int)).max() <= 1


def test_a_batch_is_one_size_and_no_larger_than_the_budget(decoder: Decoder) -> None:
    decoder.close()
    given = latents(12)
    decoder.waiting.extend((latent, Future()) for latent in given)
    batches = []
    while decoder.waiting:
        batches.append([tuple(latent.shape[1:]) for latent, _ in decoder.take()])
    assert batches == [[(4, 4)] * 4, [(2, 6)] * 5, [(4, 4)] * 2, [(2, 6)]]


def test_a_latent_larger_than_the_budget_is_decoded_alone(vae: Autoencoder) -> None:
    small = Decoder(vae, max_cells=1)
    assert [small.submit(latent).result(60).ndim for latent in latents(2)] == [3, 3]
    small.close()


def test_a_broken_latent_takes_no_other_with_it(decoder: Decoder) -> None:
    good, broken = latents(1)[0], torch.randn(3, 4, 4)
    futures = [decoder.submit(latent) for latent in (good, broken, good)]
    with pytest.raises(RuntimeError):
        futures[1].result(60)
    assert futures[0].result(60).tobytes() == futures[2].result(60).tobytes()
    assert decoder.submit(good).result(60).ndim == 3


def test_closing_finishes_what_waits(vae: Autoencoder) -> None:
    decoder = Decoder(vae, max_cells=64)
    futures = [decoder.submit(latent) for latent in latents(6)]
    decoder.close()
    assert all(future.done() for future in futures)
    assert not decoder.thread.is_alive()
