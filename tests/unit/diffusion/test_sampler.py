"""The sampler against diffusers' scheduler and pipeline rule, and its promise that a seed decides an image in any batch."""

from __future__ import annotations

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from imagewright.config.model import ModelConfig
from imagewright.diffusion.sampler import draw_noise, sample, schedule
from imagewright.errors import InputError
from imagewright.models.dit import ErnieImageDiT
from imagewright.models.packing import Pack, pack_samples

CONFIG = ModelConfig(
    hidden_size=32,
    num_layers=2,
    num_attention_heads=2,
    ffn_hidden_size=48,
    in_channels=4,
    out_channels=4,
    text_in_dim=12,
    rope_axes_dim=(4, 6, 6),
)
SIZES = [(4, 4), (2, 6), (4, 4)]
SEEDS = [11, 12, 13]


@pytest.fixture(scope="module")
def model() -> ErnieImageDiT:
    built = ErnieImageDiT(CONFIG)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return built


@pytest.fixture(scope="module")
def prompts() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(length, CONFIG.text_in_dim, generator=generator) for length in (5, 1, 3)]


def draw(model: ErnieImageDiT, prompts: list[Tensor], indices: list[int], **options: object) -> list[Tensor]:
    chosen = [prompts[i] for i in indices], [SIZES[i] for i in indices]
    return sample(model, *chosen, channels=4, seeds=[SEEDS[i] for i in indices], **{"num_steps": 4, **options})


def test_eight_steps_at_shift_four_are_the_released_schedule() -> None:
    expected = [1.0, 0.96552, 0.92308, 0.86957, 0.80, 0.70588, 0.57143, 0.36364, 0.0]
    torch.testing.assert_close(schedule(8, 4.0), torch.tensor(expected), atol=5e-6, rtol=0)


@pytest.mark.parametrize("num_steps", [1, 4, 8, 50])
@pytest.mark.parametrize("shift", [1.0, 3.0, 4.0])
def test_schedule_equals_the_schedulers(num_steps: int, shift: float) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=torch.linspace(1.0, 0.0, num_steps + 1)[:-1].numpy())
    torch.testing.assert_close(schedule(num_steps, shift), scheduler.sigmas, atol=1e-6, rtol=0)


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
def test_latents_equal_a_loop_with_the_scheduler(model: ErnieImageDiT, prompts: list[Tensor], guidance_scale: float) -> None:
    negative = prompts[1]
    actual = draw(model, prompts, [0], num_steps=8, guidance_scale=guidance_scale, negative_embeds=negative)[0]
    scheduler = FlowMatchEulerDiscreteScheduler(shift=4.0)
    scheduler.set_timesteps(sigmas=torch.linspace(1.0, 0.0, 9)[:-1].numpy())
    latent = torch.randn(4, *SIZES[0], generator=torch.Generator().manual_seed(SEEDS[0]))
    for timestep in scheduler.timesteps:
        with torch.no_grad():
            velocities = [run(model, latent, prompt, timestep) for prompt in (prompts[0], negative)]
        velocity = velocities[1] + guidance_scale * (velocities[0] - velocities[1])
        latent = scheduler.step(velocity, timestep, latent).prev_sample
    assert latent.abs().mean() > 0.1
    torch.testing.assert_close(actual, latent, atol=1e-5, rtol=1e-5)


def run(model: ErnieImageDiT, latent: Tensor, prompt: Tensor, timestep: Tensor) -> Tensor:
    pack = pack_samples([latent], [prompt], timestep[None])
    return pack.unpack(model(pack))[0]


def test_a_seed_gives_the_same_image_alone_and_in_any_batch(model: ErnieImageDiT, prompts: list[Tensor]) -> None:
    options = {"guidance_scale": 4.0, "negative_embeds": prompts[1]}
    together = draw(model, prompts, [0, 1, 2], **options)
    shuffled = draw(model, prompts, [2, 0, 1], **options)
    for index in range(3):
        alone = draw(model, prompts, [index], **options)[0]
        torch.testing.assert_close(together[index], alone, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(shuffled[(index + 1) % 3], alone, atol=1e-5, rtol=1e-5)


def test_noise_depends_on_the_seed_alone() -> None:
    first, second = draw_noise([5, 6], [(2, 2), (2, 2)], 4)
    assert torch.equal(draw_noise([6], [(2, 2)], 4)[0], second)
    assert not torch.equal(first, second)


def test_guided_steps_run_as_one_doubled_pack_and_unguided_ones_do_not(prompts: list[Tensor]) -> None:
    sizes_seen = []

    def zero_velocity(pack: Pack) -> Tensor:
        sizes_seen.append(len(pack))
        return torch.zeros_like(pack.image_tokens)

    for scale, expected in ((1.0, 3), (4.0, 6)):
        sizes_seen.clear()
        latents = sample(zero_velocity, prompts, SIZES, channels=4, seeds=SEEDS, num_steps=2, guidance_scale=scale, negative_embeds=prompts)
        assert sizes_seen == [expected, expected]
        assert all(torch.equal(a, b) for a, b in zip(latents, draw_noise(SEEDS, SIZES, 4), strict=True))


def test_model_sees_exact_timesteps_in_bf16(prompts: list[Tensor]) -> None:
    seen = []

    def record(pack: Pack) -> Tensor:
        seen.append(pack.timesteps[0].item())
        return torch.zeros_like(pack.image_tokens, dtype=torch.bfloat16)

    sample(record, prompts, SIZES, channels=4, seeds=SEEDS, num_steps=8)
    assert seen[1] == pytest.approx(965.517, abs=1e-3)


def test_bad_requests_are_refused(prompts: list[Tensor]) -> None:
    with pytest.raises(InputError) as caught:
        sample(lambda pack: pack.image_tokens, prompts, SIZES, channels=4, seeds=[1], guidance_scale=2.0)
    assert [problem.key for problem in caught.value.problems] == ["sampler", "sampler.negative_embeds"]
    with pytest.raises(InputError, match="at least 1"):
        schedule(0, 4.0)
