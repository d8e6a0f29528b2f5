"""Continuous batching: every denoising step packs all running images, whatever their sizes, steps and guidance.

One thread owns the model. A new image joins at the next step and a finished one leaves, so short requests never wait for long ones.
An image depends on its own prompt, seed, size and steps only: noise comes from its own generator, and packing mixes nothing.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imagewright.diffusion.flow_matching import TIMESTEP_SCALE, euler_step
from imagewright.diffusion.guidance import guide
from imagewright.diffusion.sampler import draw_noise, schedule
from imagewright.models.packing import Pack, pack_samples
from imagewright.models.vae import decode
from imagewright.serving.bundle import Bundle

Image = NDArray[np.uint8]


class QueueFullError(Exception):
    """More images than the engine takes; try again after `retry_after_seconds`."""

    def __init__(self, retry_after_seconds: float) -> None:
        super().__init__("the queue is full")
        self.retry_after_seconds = retry_after_seconds


class EngineStoppedError(Exception):
    """The engine is draining and takes no new image."""


@dataclass(frozen=True)
class ImageRequest:
    """One image to make. size_px: (width, height). prompt must be encoded already: prompt_embeds [T, D]."""

    prompt_embeds: Tensor
    negative_embeds: Tensor
    size_px: tuple[int, int]
    seed: int
    num_steps: int
    guidance_scale: float


@dataclass
class Running:
    """An image between its first and last step."""

    request: ImageRequest
    future: Future[Image]
    submitted: float
    latent: Tensor | None = None
    sigmas: Tensor = field(default_factory=lambda: torch.zeros(0))
    step: int = 0

    @property
    def guided(self) -> bool:
        """Whether a step needs two passes."""
        return self.request.guidance_scale != 1.0


class Engine:
    """Makes images from one bundle until it is drained."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        max_queue: int,
        max_batch_tokens: int,
        device: torch.device | str = "cpu",
        on_done: Callable[[ImageRequest, float], None] | None = None,
    ) -> None:
        """on_done: called with each finished image's request and its seconds from submission."""
        self.bundle, self.device = bundle, device
        self.max_queue, self.max_batch_tokens, self.on_done = max_queue, max_batch_tokens, on_done
        self.waiting: deque[Running] = deque()
        self.running: list[Running] = []
        self.wake = threading.Condition()
        self.draining = False
        self.seconds_per_image = 1.0
        self.thread = threading.Thread(target=self.loop, name="image-engine", daemon=True)
        self.thread.start()

    @property
    def load(self) -> int:
        """Images waiting or running."""
        return len(self.waiting) + len(self.running)

    def submit(self, requests: list[ImageRequest]) -> list[Future[Image]]:
        """Takes all of a request's images or none. Raises QueueFullError or EngineStoppedError at once, never blocks."""
        now = time.monotonic()
        entries = [Running(request, Future(), now) for request in requests]
        with self.wake:
            if self.draining:
                raise EngineStoppedError
            if self.load + len(entries) > self.max_queue:
                raise QueueFullError(max(1.0, self.load * self.seconds_per_image))
            self.waiting.extend(entries)
            self.wake.notify()
        return [entry.future for entry in entries]

    def drain(self, timeout_seconds: float | None = None) -> bool:
        """Takes nothing new, finishes what it has; True when the thread has ended in time."""
        with self.wake:
            self.draining = True
            self.wake.notify()
        self.thread.join(timeout_seconds)
        return not self.thread.is_alive()

    def loop(self) -> None:
        """The thread: admit, step, release, until drained."""
        torch.set_grad_enabled(False)
        while True:
            with self.wake:
                while not self.waiting and not self.running and not self.draining:
                    self.wake.wait()
                if self.draining and not self.waiting and not self.running:
                    return
                self.admit()
            try:
                self.advance()
            except Exception as error:  # a failure must reach whoever waits, and must not end the engine
                self.fail(error)

    def admit(self) -> None:
        """Moves waiting images in, in order, while the token budget lasts; one always fits. Cancelled ones are dropped."""
        self.running = [entry for entry in self.running if not entry.future.cancelled()]
        tokens = sum(self.tokens_of(entry) for entry in self.running)
        while self.waiting:
            entry = self.waiting[0]
            if entry.future.cancelled():
                self.waiting.popleft()
                continue
            cost = self.tokens_of(entry)
            if self.running and tokens + cost > self.max_batch_tokens:
                return
            self.waiting.popleft()
            self.running.append(entry)
            tokens += cost

    def tokens_of(self, entry: Running) -> int:
        """Tokens of one image in a pack; the negative prompt's pass counts too."""
        request = entry.request
        area = (request.size_px[0] // self.bundle.stride) * (request.size_px[1] // self.bundle.stride)
        tokens = area + request.prompt_embeds.shape[0]
        return tokens + area + request.negative_embeds.shape[0] if entry.guided else tokens

    def advance(self) -> None:
        """One Euler step of every running image, then decoding of the finished ones."""
        if not self.running:
            return
        for entry in self.running:
            if entry.latent is None:
                self.start(entry)
        velocities = self.velocities()
        for entry, velocity in zip(self.running, velocities, strict=True):
            assert entry.latent is not None
            entry.latent = euler_step(entry.latent, velocity, entry.sigmas[entry.step], entry.sigmas[entry.step + 1])
            entry.step += 1
        finished = [entry for entry in self.running if entry.step == entry.request.num_steps]
        self.release(finished)

    def start(self, entry: Running) -> None:
        """Draws the noise of one image from its own generator and lays out its schedule."""
        width, height = entry.request.size_px
        size = (height // self.bundle.stride, width // self.bundle.stride)
        entry.latent = draw_noise([entry.request.seed], [size], self.bundle.transformer.config.in_channels)[0].to(self.device)
        entry.sigmas = schedule(entry.request.num_steps, self.bundle.defaults.shift).to(self.device)

    def velocities(self) -> list[Tensor]:
        """Guided velocity [C, h, w] of every running image, from one packed pass: conditional ones first, then the negatives."""
        guided = [index for index, entry in enumerate(self.running) if entry.guided]
        rows = [*range(len(self.running)), *guided]
        entries = [self.running[index] for index in rows]
        prompts = [entry.request.prompt_embeds for entry in self.running] + [self.running[i].request.negative_embeds for i in guided]
        timesteps = torch.stack([entry.sigmas[entry.step] * TIMESTEP_SCALE for entry in entries])
        latents = [entry.latent for entry in entries if entry.latent is not None]
        pack: Pack = pack_samples(latents, [prompt.to(self.device) for prompt in prompts], timesteps)
        predicted = pack.unpack(self.bundle.transformer(pack).float())
        velocities = predicted[: len(self.running)]
        for negative, index in enumerate(guided, start=len(self.running)):
            velocities[index] = guide(velocities[index], predicted[negative], self.running[index].request.guidance_scale)
        return velocities

    def release(self, finished: list[Running]) -> None:
        """Decodes finished images, same sizes together, and hands them out."""
        by_size: dict[tuple[int, int], list[Running]] = {}
        for entry in finished:
            by_size.setdefault(entry.request.size_px, []).append(entry)
        for entries in by_size.values():
            pixels = decode(self.bundle.vae, torch.stack([entry.latent for entry in entries if entry.latent is not None]))
            images = to_bytes(pixels)
            for entry, image in zip(entries, images, strict=True):
                seconds = time.monotonic() - entry.submitted
                self.seconds_per_image += 0.1 * (seconds / max(1, self.load) - self.seconds_per_image)
                if entry.future.set_running_or_notify_cancel():
                    entry.future.set_result(image)
                    if self.on_done is not None:
                        self.on_done(entry.request, seconds)
        done = {id(entry) for entry in finished}
        with self.wake:
            self.running = [entry for entry in self.running if id(entry) not in done]

    def fail(self, error: Exception) -> None:
        """Hands an error to every running image; waiting ones get their own try."""
        with self.wake:
            failed, self.running = self.running, []
        for entry in failed:
            if entry.future.set_running_or_notify_cancel():
                entry.future.set_exception(error)


def to_bytes(pixels: Tensor) -> list[Image]:
    """Images [B, 3, H, W] in -1..1 -> uint8 [H, W, 3] each, rounded as diffusers' image processor does."""
    scaled = (pixels / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float().cpu().numpy()
    return list((scaled * 255).round().astype(np.uint8))
