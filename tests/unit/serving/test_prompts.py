"""Prompts that wait together are encoded together; one that fails takes no other with it; memory stays bounded."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from imagewright.serving.prompts import PromptEncoder

WIDTH = 4
BYTES = WIDTH * 4


class Encoder:
    """Embeds a prompt as its length; holds its first call until told."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.go = threading.Event()

    def __call__(self, prompts: Sequence[str]) -> list[Tensor]:
        self.calls.append(list(prompts))
        assert self.go.wait(30)
        if "bad" in prompts:
            raise ValueError("bad prompt")
        return [torch.full((1, WIDTH), float(len(prompt))) for prompt in prompts]


def test_waiting_prompts_go_into_one_call_and_equal_ones_once() -> None:
    encode = Encoder()
    prompts = PromptEncoder(encode, 1 << 20)
    first = prompts.submit("a")
    while not encode.calls:
        pass
    later = [prompts.submit(text) for text in ("bb", "ccc", "bb")]
    encode.go.set()
    assert [float(future.result(30)[0, 0]) for future in (first, *later)] == [1.0, 2.0, 3.0, 2.0]
    assert encode.calls == [["a"], ["bb", "ccc"]]
    assert prompts.submit("bb").done()
    prompts.close()


def test_a_prompt_that_fails_takes_no_other_with_it() -> None:
    encode = Encoder()
    prompts = PromptEncoder(encode, 0)
    held = prompts.submit("x")
    while not encode.calls:
        pass
    good, bad = prompts.submit("good"), prompts.submit("bad")
    encode.go.set()
    assert float(good.result(30)[0, 0]) == 4.0
    with pytest.raises(ValueError, match="bad prompt"):
        bad.result(30)
    assert float(held.result(30)[0, 0]) == 1.0
    assert float(prompts.submit("again").result(30)[0, 0]) == 5.0
    prompts.close()


@pytest.mark.parametrize(("budget", "remembered"), [(2 * BYTES, {"b", "c"}), (2 * BYTES - 1, {"c"}), (BYTES - 1, set())])
def test_the_oldest_is_forgotten_at_the_bound(budget: int, remembered: set[str]) -> None:
    encode = Encoder()
    encode.go.set()
    prompts = PromptEncoder(encode, budget)
    for text in ("a", "b", "c"):
        prompts.submit(text).result(30)
    assert set(prompts.cache) == remembered
    prompts.close()
