"""Finished latents -> images, in a thread of their own: the next denoising step does not wait for the decoder."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imagewright.models.vae import Autoencoder, decode

Image = NDArray[np.uint8]
Waiting = tuple[Tensor, Future[Image]]


class Decoder:
    """One thread that owns the autoencoder. Latents of one size that wait together are decoded together."""

    def __init__(self, vae: Autoencoder, max_cells: int) -> None:
        """max_cells: latent positions in one call; one latent always fits."""
        self.vae, self.max_cells = vae, max_cells
        self.waiting: deque[Waiting] = deque()
        self.wake = threading.Condition()
        self.closed = False
        self.thread = threading.Thread(target=self.loop, name="image-decoder", daemon=True)
        self.thread.start()

    def submit(self, latent: Tensor) -> Future[Image]:
        """The image of a latent [C, h, w]; what is called when it is done runs in the decoder's thread."""
        future: Future[Image] = Future()
        with self.wake:
            assert not self.closed, "closed by the engine that feeds it, when that has ended"
            self.waiting.append((latent, future))
            self.wake.notify()
        return future

    def close(self) -> None:
        """Decodes what waits and ends the thread."""
        with self.wake:
            self.closed = True
            self.wake.notify()
        self.thread.join()

    def loop(self) -> None:
        """The thread: take a batch, decode it, until closed and empty."""
        torch.set_grad_enabled(False)
        while True:
            with self.wake:
                while not self.waiting and not self.closed:
                    self.wake.wait()
                if not self.waiting:
                    return
                batch = self.take()
            self.decode(batch)

    def take(self) -> list[Waiting]:
        """The latent that has waited longest, with others of its size; the rest keep their order."""
        _, height, width = self.waiting[0][0].shape
        room = max(1, self.max_cells // (height * width))
        batch: list[Waiting] = []
        rest: deque[Waiting] = deque()
        for entry in self.waiting:
            fits = entry[0].shape[1:] == (height, width) and len(batch) < room
            (batch if fits else rest).append(entry)
        self.waiting = rest
        return batch

    def decode(self, batch: list[Waiting]) -> None:
        """Decodes latents of one size. When that fails, each alone, so that only the one at fault is lost."""
        try:
            images = to_bytes(decode(self.vae, torch.stack([latent for latent, _ in batch]).to(self.vae.dtype)))
        except Exception as error:  # a failure must reach whoever waits, and must not end the thread
            if len(batch) == 1:
                batch[0][1].set_exception(error)
            for entry in batch if len(batch) > 1 else ():
                self.decode([entry])
            return
        for (_, future), image in zip(batch, images, strict=True):
            future.set_result(image)


def to_bytes(pixels: Tensor) -> list[Image]:
    """Images [B, 3, H, W] in -1..1 -> uint8 [H, W, 3] each, rounded as diffusers' image processor does."""
    scaled = (pixels / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float().cpu().numpy()
    return list((scaled * 255).round().astype(np.uint8))
