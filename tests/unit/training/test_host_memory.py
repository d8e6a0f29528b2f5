"""Memory freed by one step is still there for the next: no page is asked for twice."""

from __future__ import annotations

import resource

import torch

from imagewright.training.host_memory import keep_freed_memory

PAGE_BYTES = resource.getpagesize()
STEP_BYTES = 16 << 20


def faults_of_a_step() -> int:
    """Pages that the system handed out while four tensors of a step were written and freed."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.empty(STEP_BYTES // 4, dtype=torch.uint8).fill_(1) for _ in range(4)]
    del tensors
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_later_steps_ask_the_system_for_no_memory() -> None:
    assert keep_freed_memory(), "the tests run on glibc"
    # The first steps may still find the heap in pieces.
    assert min(faults_of_a_step() for _ in range(5)) < STEP_BYTES // PAGE_BYTES / 10
