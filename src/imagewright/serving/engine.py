"""Continuous batching: images join at any denoising step and leave when they are done, so short requests never wait for long ones.

Each worker is a thread that steps a pack of its own; workers share the weights and the queue. One worker keeps a GPU busy. On a CPU, a
worker per core draws small packs faster than one worker on one core, or on all of them with every product split. Finished images go to the
decoder's thread (`decoding.py`).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial

import torch

from imagewright.serving.bundle import Bundle
from imagewright.serving.decoding import Decoder, Image
from imagewright.serving.denoising import Denoiser, ImageRequest, Running


class QueueFullError(Exception):
    """More images than the engine takes; try again after `retry_after_seconds`."""

    def __init__(self, retry_after_seconds: float) -> None:
        super().__init__("the queue is full")
        self.retry_after_seconds = retry_after_seconds


class EngineStoppedError(Exception):
    """The engine is draining and takes no new image."""


class Engine:
    """Makes images from one bundle until it is drained."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        max_queue: int,
        max_batch_tokens: int,
        num_workers: int = 1,
        on_done: Callable[[ImageRequest, float], None] | None = None,
    ) -> None:
        """max_batch_tokens: of one worker's pack. on_done: called with each finished image's request and its seconds from submission."""
        self.denoiser = Denoiser(bundle)
        self.max_queue, self.max_batch_tokens, self.on_done = max_queue, max_batch_tokens, on_done
        self.waiting: deque[Running] = deque()
        self.reserved = self.decoding = 0
        self.decoder = Decoder(bundle.vae, max_batch_tokens)
        self.wake = threading.Condition()
        self.draining = False
        self.seconds_per_image = 1.0
        self.workers = [Worker(self, number) for number in range(num_workers)]
        self.num_working = num_workers
        for worker in self.workers:
            worker.thread.start()

    @property
    def load(self) -> int:
        """Images waiting, running, being decoded or promised a place."""
        return len(self.waiting) + self.num_running + self.decoding + self.reserved

    @property
    def num_running(self) -> int:
        """Images between their first and last step."""
        return sum(len(worker.running) for worker in self.workers)

    @contextmanager
    def reserve(self, num_images: int) -> Iterator[Callable[[list[ImageRequest]], list[Future[Image]]]]:
        """Promises places for all images of a request or for none, before any work goes into it; yields what hands the images in.

        A drained engine still takes images that it promised places. An idle engine takes a request of any size. Raises QueueFullError
        or EngineStoppedError at once, never blocks.
        """
        with self.wake:
            if self.draining:
                raise EngineStoppedError
            if self.load and self.load + num_images > self.max_queue:
                raise QueueFullError(max(1.0, self.load * self.seconds_per_image))
            self.reserved += num_images
        held = num_images

        def submit(requests: list[ImageRequest]) -> list[Future[Image]]:
            nonlocal held
            assert len(requests) == held, "a reservation is used once, for the images it was made for"
            now = time.monotonic()
            entries = [Running(request, Future(), now) for request in requests]
            with self.wake:
                self.reserved -= held
                held = 0
                self.waiting.extend(entries)
                self.wake.notify_all()
            return [entry.future for entry in entries]

        try:
            yield submit
        finally:
            with self.wake:
                self.reserved -= held
                self.wake.notify_all()

    def submit(self, requests: list[ImageRequest]) -> list[Future[Image]]:
        """Reserves and hands in at once."""
        with self.reserve(len(requests)) as hand_in:
            return hand_in(requests)

    def drain(self, timeout_seconds: float | None = None) -> bool:
        """Takes nothing new, finishes what it has; True when its threads have ended in time."""
        with self.wake:
            self.draining = True
            self.wake.notify_all()
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        for worker in self.workers:
            worker.thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return not any(worker.thread.is_alive() for worker in self.workers)

    def admit(self, worker: Worker) -> bool:
        """Waits until the worker has images and hands it new ones; False once drained."""
        with self.wake:
            while not self.waiting and not worker.running and (self.reserved or not self.draining):
                self.wake.wait()
            self.fill(worker)
            return bool(worker.running or self.waiting or self.reserved or not self.draining)

    def fill(self, worker: Worker) -> None:
        """Moves waiting images to a worker, in order, up to its share of all images and while its token budget lasts; one always fits.

        Cancelled ones are dropped.
        """
        worker.running = [entry for entry in worker.running if not entry.future.done()]
        share = -(-(self.num_running + len(self.waiting)) // len(self.workers))
        tokens = sum(self.denoiser.tokens_of(entry) for entry in worker.running)
        while self.waiting and len(worker.running) < share:
            entry = self.waiting[0]
            cost = self.denoiser.tokens_of(entry)
            if entry.future.cancelled():
                self.waiting.popleft()
            elif worker.running and tokens + cost > self.max_batch_tokens:
                return
            else:
                worker.running.append(self.waiting.popleft())
                tokens += cost

    def leave(self) -> None:
        """The last worker to end closes the decoder."""
        with self.wake:
            self.num_working -= 1
            last = not self.num_working
        if last:
            self.decoder.close()

    def release(self, worker: Worker, finished: list[Running]) -> None:
        """Hands finished latents to the decoder."""
        done = {id(entry) for entry in finished}
        with self.wake:
            worker.running = [entry for entry in worker.running if id(entry) not in done]
            self.decoding += len(finished)
        for entry in finished:
            assert entry.latent is not None
            self.decoder.submit(entry.latent).add_done_callback(partial(self.deliver, entry))

    def deliver(self, entry: Running, decoded: Future[Image]) -> None:
        """Hands an image, or what went wrong with it, to its request; runs in the decoder's thread."""
        seconds = time.monotonic() - entry.submitted
        with self.wake:
            self.seconds_per_image += 0.1 * (seconds / max(1, self.load) - self.seconds_per_image)
            self.decoding -= 1
        error = decoded.exception()
        if not entry.future.set_running_or_notify_cancel():
            return
        if error is not None:
            entry.future.set_exception(error)
            return
        entry.future.set_result(decoded.result())
        if self.on_done is not None:
            self.on_done(entry.request, seconds)

    def fail(self, worker: Worker, entry: Running, error: Exception) -> None:
        """Hands an error to the image's request."""
        with self.wake:
            worker.running = [other for other in worker.running if other is not entry]
        if entry.future.set_running_or_notify_cancel():
            entry.future.set_exception(error)


class Worker:
    """A thread and the images it steps."""

    def __init__(self, engine: Engine, number: int) -> None:
        self.engine = engine
        self.running: list[Running] = []
        self.thread = threading.Thread(target=self.loop, name=f"image-worker-{number}", daemon=True)

    def loop(self) -> None:
        """Admits, steps and hands over to the decoder, until the engine is drained."""
        torch.set_grad_enabled(False)
        while self.engine.admit(self):
            self.step(list(self.running))
        self.engine.leave()

    def step(self, entries: list[Running]) -> None:
        """Advances images together; when that fails, each alone, so that only the one at fault is lost."""
        try:
            self.engine.denoiser.advance(entries)
        except Exception as error:  # a failure must reach whoever waits, and must not end the thread
            if len(entries) == 1:
                self.engine.fail(self, entries[0], error)
            for entry in entries if len(entries) > 1 else ():
                if not entry.future.done():
                    self.step([entry])
            return
        self.engine.release(self, [entry for entry in entries if entry.finished])
