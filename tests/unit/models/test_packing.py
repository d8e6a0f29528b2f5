"""What goes into a pack comes out of it, and what cannot be packed is refused with every reason."""

from __future__ import annotations

import pytest
import torch
from dit_cases import TINY, Case, build_case

from imagewright.errors import InputError
from imagewright.models.packing import join_packs, pack_samples


def test_unpacking_returns_the_latents_in_order(mixed_case: Case) -> None:
    pack = mixed_case.pack()
    assert all(torch.equal(a, b) for a, b in zip(pack.unpack(pack.image_tokens), mixed_case.latents, strict=True))
    assert len(pack) == 6
    assert pack.num_tokens == sum(pack.image_lengths) + sum(pack.text_lengths)


def test_every_row_holds_one_token_of_its_own_sample(mixed_case: Case) -> None:
    layout = mixed_case.pack().layout
    assert sorted(torch.cat([layout.image_rows, layout.text_rows]).tolist()) == list(range(layout.rows))
    assert torch.equal(layout.segment_ids[layout.image_rows], layout.image_segment_ids)
    assert layout.cu_lengths.tolist()[-1] == layout.rows
    assert sum(bucket.rows for bucket in layout.buckets) == layout.rows


def test_positions_are_text_index_then_text_length_row_and_column() -> None:
    layout = build_case(TINY, [(2, 3)], [4]).pack().layout
    image, text = layout.position_ids[layout.image_rows], layout.position_ids[layout.text_rows]
    assert image.tolist() == [[4, 0, 0], [4, 0, 1], [4, 0, 2], [4, 1, 0], [4, 1, 1], [4, 1, 2]]
    assert text.tolist() == [[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0]]


def test_mean_per_sample_weighs_small_and_large_images_alike() -> None:
    pack = build_case(TINY, [(1, 1), (2, 2)], [1, 1]).pack()
    values = torch.tensor([[2.0], [1.0], [3.0], [5.0], [7.0]])
    assert pack.mean_per_sample(values).tolist() == [2.0, 4.0]
    assert pack.spread(torch.tensor([0.5, 0.25])).tolist() == [[0.5], [0.25], [0.25], [0.25], [0.25]]


def test_timesteps_stay_fp32_when_tokens_become_bf16(mixed_case: Case) -> None:
    pack = mixed_case.pack().to(dtype=torch.bfloat16)
    assert pack.image_tokens.dtype == pack.text_tokens.dtype == torch.bfloat16
    assert pack.timesteps.dtype == torch.float32


def test_joined_packs_hold_both_in_order(mixed_case: Case) -> None:
    first, second = mixed_case.subset([0, 1]).pack(), mixed_case.subset([2, 3, 4, 5]).pack()
    joined, whole = join_packs(first, second), mixed_case.pack()
    assert torch.equal(joined.image_tokens, whole.image_tokens) and torch.equal(joined.text_tokens, whole.text_tokens)
    assert (joined.sizes, joined.text_lengths) == (whole.sizes, whole.text_lengths)


def test_samples_that_cannot_be_packed_are_all_named() -> None:
    good, prompt = torch.zeros(8, 2, 2), torch.zeros(3, 40)
    with pytest.raises(InputError) as caught:
        pack_samples([good, torch.zeros(4, 2, 2), good], [prompt, prompt, torch.zeros(0, 40)], torch.zeros(3))
    assert [problem.key for problem in caught.value.problems] == ["pack.latents.1", "pack.prompt_embeds.2"]
    assert "empty prompt" in str(caught.value)


@pytest.mark.parametrize(("latents", "prompts", "timesteps"), [(0, 0, 0), (2, 1, 2), (2, 2, 1)])
def test_disagreeing_counts_are_refused(latents: int, prompts: int, timesteps: int) -> None:
    with pytest.raises(InputError, match="one latent, prompt and timestep for each"):
        pack_samples([torch.zeros(8, 2, 2)] * latents, [torch.zeros(3, 40)] * prompts, torch.zeros(timesteps))
