"""Keeps the memory that a training step frees for the next step, instead of giving it back to the system and asking for it again."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""Names of glibc's `mallopt` settings, from its malloc.h."""
LARGEST_KEPT_BYTES = 1 << 30
"""Freed blocks up to this size are kept."""
GROWTH_BYTES = 64 << 20
"""The heap grows by this much at a time."""


def keep_freed_memory() -> bool:
    """Tells glibc's allocator to keep what is freed; returns whether it could (False on other systems, where nothing changes).

    A step on the CPU allocates and frees every activation. By default glibc returns them to the system at the end of the backward pass,
    and every page is faulted in and zeroed again in the next step (`benchmarks/training_step.py`). The process keeps its peak instead.
    """
    if not sys.platform.startswith("linux"):
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:
        return False
    options = ((M_TRIM_THRESHOLD, LARGEST_KEPT_BYTES), (M_MMAP_THRESHOLD, LARGEST_KEPT_BYTES), (M_TOP_PAD, GROWTH_BYTES))
    return [set_option(name, value) for name, value in options] == [1] * len(options)
