"""Attention of a pack against a softmax written out for one sample at a time."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from dit_cases import TINY, build_case
from torch import Tensor

from imagewright.models.attention import GatherSlots, SelfAttention, attend_pack
from imagewright.models.rope import rotary_tables

MIXES = {"equal": [3, 3, 3], "unequal": [1, 9, 4], "one sample": [5]}


def one_by_one(query: Tensor, key: Tensor, value: Tensor, cuts: list[int]) -> Tensor:
    pieces = []
    for start, end in pairwise(cuts):
        q, k, v = (tensor[start:end].transpose(0, 1) for tensor in (query, key, value))
        pieces.append(((q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1) @ v).transpose(0, 1))
    return torch.cat(pieces)


@pytest.mark.parametrize("lengths", MIXES.values(), ids=MIXES.keys())
def test_every_sample_attends_to_itself_alone(lengths: list[int]) -> None:
    layout = build_case(TINY, [(2, 3)] * len(lengths), lengths).pack().layout
    results = []
    for attend in (lambda q, k, v: attend_pack(q, k, v, layout), lambda q, k, v: one_by_one(q, k, v, layout.cu_lengths.tolist())):
        generator = torch.Generator().manual_seed(0)
        q, k, v = (torch.randn(layout.rows, 2, 8, generator=generator, requires_grad=True) for _ in range(3))
        out = attend(q, k, v)
        (out * torch.randn(out.shape, generator=generator)).sum().backward()
        results.append([out.detach(), q.grad, k.grad, v.grad])
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-5)


def test_pad_slots_give_no_gradient() -> None:
    x = torch.randn(3, 2, requires_grad=True)
    GatherSlots.apply(x, torch.tensor([0, 1, 0, 2]), torch.tensor([0, 1, 3])).backward(torch.tensor([[1.0], [2], [9], [3]]).expand(4, 2))
    assert x.grad.tolist() == [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]


def test_asking_for_some_rows_gives_those_rows() -> None:
    torch.manual_seed(0)
    layout = build_case(TINY, [(2, 3), (1, 2)], [4, 2]).pack().layout
    attention = SelfAttention(64, 4, 1e-6)
    x = torch.randn(layout.rows, 64)
    cos, sin = rotary_tables(layout.position_ids, (4, 6, 6), 256, torch.float32)
    some = attention(x, cos, sin, layout, layout.image_rows)
    torch.testing.assert_close(some, attention(x, cos, sin, layout)[layout.image_rows])
