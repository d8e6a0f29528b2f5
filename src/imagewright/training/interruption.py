"""SIGTERM and SIGINT: the running step is finished, a checkpoint saved, and the process ends with its own exit code."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

EXIT_INTERRUPTED = 75
"""EX_TEMPFAIL: run it again and it continues."""


class TrainingInterrupted(SystemExit):
    """Raised after the checkpoint of an interrupted run is safe."""

    def __init__(self, step: int) -> None:
        super().__init__(EXIT_INTERRUPTED)
        self.step = step


class StopRequest:
    """Remembers that someone asked the run to stop. Signal handlers exist in the main thread only; elsewhere it never fires."""

    def __init__(self) -> None:
        self.requested = False
        self.previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self.previous[number] = signal.signal(number, self.request)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous.clear()

    def request(self, number: int, frame: FrameType | None) -> None:
        """Asks once; a second signal acts as if nobody listened, so a stuck run can still be ended."""
        if self.requested:
            signal.signal(number, self.previous.get(number) or signal.SIG_DFL)
            signal.raise_signal(number)
        self.requested = True
