"""Prompt embeddings for the image server: prompts that wait together are encoded together, and the newest are remembered."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from torch import Tensor

Encode = Callable[[Sequence[str]], list[Tensor]]


class PromptEncoder:
    """One thread that owns the text encoder. An embedding depends on its own prompt only, so remembering one changes nothing."""

    def __init__(self, encode: Encode, cache_bytes: int) -> None:
        """encode: prompts -> one [T, D] each. cache_bytes: memory for remembered embeddings; 0 remembers none."""
        self.encode, self.cache_bytes = encode, cache_bytes
        self.cache: OrderedDict[str, Tensor] = OrderedDict()
        self.held_bytes = 0
        self.waiting: deque[tuple[str, Future[Tensor]]] = deque()
        self.wake = threading.Condition()
        self.closed = False
        threading.Thread(target=self.loop, name="prompt-encoder", daemon=True).start()

    def submit(self, prompt: str) -> Future[Tensor]:
        """The embedding [T, D] of a prompt, done at once when it is remembered. Never blocks."""
        future: Future[Tensor] = Future()
        with self.wake:
            known = self.cache.get(prompt)
            if known is None:
                assert not self.closed, "closed after the engine it feeds was drained"
                self.waiting.append((prompt, future))
                self.wake.notify()
                return future
            self.cache.move_to_end(prompt)
        future.set_result(known)
        return future

    def close(self) -> None:
        """Ends the thread once nothing waits."""
        with self.wake:
            self.closed = True
            self.wake.notify()

    def loop(self) -> None:
        """The thread: everything that waits goes into one call."""
        while True:
            with self.wake:
                while not self.waiting and not self.closed:
                    self.wake.wait()
                if not self.waiting:
                    return
                batch = list(self.waiting)
                self.waiting.clear()
            self.answer([(prompt, future) for prompt, future in batch if future.set_running_or_notify_cancel()])

    def answer(self, batch: list[tuple[str, Future[Tensor]]]) -> None:
        """Encodes a batch. When the call fails, every prompt is tried alone, so only the one at fault gets the error."""
        prompts = list(dict.fromkeys(prompt for prompt, _ in batch))
        try:
            found = dict(zip(prompts, self.encode(prompts), strict=True))
        except Exception as error:  # whoever waits must hear of it, and the thread must go on
            if len(batch) > 1:
                for entry in batch:
                    self.answer([entry])
            elif batch:
                batch[0][1].set_exception(error)
            return
        for prompt, embeds in found.items():
            self.remember(prompt, embeds)
        for prompt, future in batch:
            future.set_result(found[prompt])

    def remember(self, prompt: str, embeds: Tensor) -> None:
        """Keeps an embedding and forgets the oldest beyond `cache_bytes`."""
        size = embeds.numel() * embeds.element_size()
        with self.wake:
            if size > self.cache_bytes or prompt in self.cache:
                return
            self.cache[prompt] = embeds
            self.held_bytes += size
            while self.held_bytes > self.cache_bytes:
                _, oldest = self.cache.popitem(last=False)
                self.held_bytes -= oldest.numel() * oldest.element_size()
