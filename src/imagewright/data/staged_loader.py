"""Feeds a run of several stages: each stage has its own loader and number of steps; the position says which stage it is in."""

from __future__ import annotations

from collections.abc import Sequence

from imagewright.data.packed_loader import Batch, LoaderError, PackedLoader
from imagewright.errors import Problem


class StagedLoader:
    """Hands out `steps[i]` optimizer steps of loader i, one stage after the other; the last goes on past its end."""

    def __init__(self, loaders: Sequence[PackedLoader], steps: Sequence[int]) -> None:
        assert len(loaders) == len(steps) > 0, "every stage needs a loader and a number of steps"
        self.loaders, self.steps = loaders, steps
        self.done = 0

    def stage(self) -> int:
        """Index of the stage the next step belongs to."""
        left = self.done
        for number, steps in enumerate(self.steps[:-1]):
            if left < steps:
                return number
            left -= steps
        return len(self.steps) - 1

    def next_step(self) -> list[Batch]:
        """Batches of this process for the next optimizer step."""
        batches = self.loaders[self.stage()].next_step()
        self.done += 1
        return batches

    def state(self) -> dict[str, int]:
        """Steps handed out, and the position of the loader that handed out the last one."""
        self.done -= 1 if (begun := self.done > 0) else 0
        position = self.loaders[self.stage()].state()
        self.done += begun
        return {"done": self.done, **position}

    def load_state(self, state: dict[str, int]) -> None:
        """Continues from a position, in the right stage."""
        if state.get("done", -1) < 0:
            raise LoaderError(Problem("loader.state", "must count the steps done", state, "resume with the checkpoint of this run"))
        self.done = max(0, state["done"] - 1)
        self.loaders[self.stage()].load_state({name: value for name, value in state.items() if name != "done"})
        self.done = state["done"]
