"""Many transfers at the same time: the first failure stops the rest, and a person at a terminal sees a bar."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

Item = TypeVar("Item")
Result = TypeVar("Result")
Advance = Callable[[int], object]
BATCHES_PER_WORKER = 8
MAX_BATCH = 64


def run_parallel(function: Callable[[Item], Result], items: Sequence[Item], num_workers: int) -> list[Result]:
    """Results in the order of the items. Raises the first error after every transfer under way has ended; none starts after it."""
    if len(items) <= 1 or num_workers <= 1:
        return [function(item) for item in items]
    size = max(1, min(MAX_BATCH, len(items) // (num_workers * BATCHES_PER_WORKER)))
    stopped = False

    def run_batch(batch: Sequence[Item]) -> list[Result]:
        results = []
        for item in batch:
            if stopped:
                break
            results.append(function(item))
        return results

    with ThreadPoolExecutor(min(num_workers, len(items)), thread_name_prefix="transfer") as pool:
        futures = [pool.submit(run_batch, items[start : start + size]) for start in range(0, len(items), size)]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            failed = [error for future in futures if future.done() and (error := future.exception())]
            if failed:
                raise failed[0]
        finally:
            stopped = True
            pool.shutdown(wait=True, cancel_futures=True)
    return [result for future in futures for result in future.result()]


@contextlib.contextmanager
def progress_bar(console: Console | None, label: str, total_bytes: int) -> Iterator[Advance]:
    """Gives a function to call with every number of bytes done; a bar is drawn only on a terminal."""
    if console is None or not console.is_terminal:
        yield lambda _: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(label, total=total_bytes)
        yield lambda num_bytes: progress.advance(task, num_bytes)
