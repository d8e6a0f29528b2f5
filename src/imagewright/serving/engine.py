"""Continuous batching: every denoising step packs all running images, whatever their sizes, steps and guidance.

One thread owns the transformer. A new image joins at the next step and a finished one leaves for the decoder's thread (`decoding.py`),
so short requests never wait for long ones. An image depends on its own prompt, seed, size and steps only: noise comes from its own
generator, and packing mixes nothing.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from imagewright.diffusion.flow_matching import TIMESTEP_SCALE, euler_step
from imagewright.diffusion.guidance import guide, needs_guidance
from imagewright.diffusion.sampler import draw_noise, schedule
from imagewright.models.packing import Pack, pack_samples
from imagewright.serving.bundle import Bundle
from imagewright.serving.decoding import Decoder, Image


class QueueFullError(Exception):
    """More images than the engine takes; try again after `retry_after_seconds`."""

    def __init__(self, retry_after_seconds: float) -> None:
        super().__init__("the queue is full")
        self.retry_after_seconds = retry_after_seconds


class EngineStoppedError(Exception):
    """The engine is draining and takes no new image."""


@dataclass(frozen=True)
class ImageRequest:
    """One image to make. size_px: (width, height). Prompts are encoded already: [T, D]; the negative one counts when guided only."""

    prompt_embeds: Tensor
    negative_embeds: Tensor | None
    size_px: tuple[int, int]
    seed: int
    num_steps: int
    guidance_scale: float


@dataclass
class Running:
    """An image that waits, or is between its first and last step."""

    request: ImageRequest
    future: Future[Image]
    submitted: float
    latent: Tensor | None = None
    sigmas: Tensor = field(default_factory=lambda: torch.zeros(0))
    step: int = 0

    @property
    def guided(self) -> bool:
        """Whether a step needs two passes."""
        return needs_guidance(self.request.guidance_scale) and self.request.negative_embeds is not None


class Engine:
    """Makes images from one bundle until it is drained."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        max_queue: int,
        max_batch_tokens: int,
        on_done: Callable[[ImageRequest, float], None] | None = None,
    ) -> None:
        """on_done: called with each finished image's request and its seconds from submission."""
        self.bundle, self.device = bundle, bundle.transformer.final_linear.weight.device
        self.max_queue, self.max_batch_tokens, self.on_done = max_queue, max_batch_tokens, on_done
        self.waiting: deque[Running] = deque()
        self.running: list[Running] = []
        self.reserved = self.decoding = 0
        self.decoder = Decoder(bundle.vae, max_batch_tokens)
        self.wake = threading.Condition()
        self.draining = False
        self.seconds_per_image = 1.0
        self.thread = threading.Thread(target=self.loop, name="image-engine", daemon=True)
        self.thread.start()

    @property
    def load(self) -> int:
        """Images waiting, running, being decoded or promised a place."""
        return len(self.waiting) + len(self.running) + self.decoding + self.reserved

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
                self.wake.notify()
            return [entry.future for entry in entries]

        try:
            yield submit
        finally:
            with self.wake:
                self.reserved -= held
                self.wake.notify()

    def submit(self, requests: list[ImageRequest]) -> list[Future[Image]]:
        """Reserves and hands in at once."""
        with self.reserve(len(requests)) as hand_in:
            return hand_in(requests)

    def drain(self, timeout_seconds: float | None = None) -> bool:
        """Takes nothing new, finishes what it has; True when the thread has ended in time."""
        with self.wake:
            self.draining = True
            self.wake.notify()
        self.thread.join(timeout_seconds)
        return not self.thread.is_alive()

    def loop(self) -> None:
        """The thread: admit, step, hand over to the decoder, until drained."""
        torch.set_grad_enabled(False)
        while self.admit():
            self.step(list(self.running))
        self.decoder.close()

    def step(self, entries: list[Running]) -> None:
        """Advances images together; when that fails, each alone, so that only the one at fault is lost."""
        try:
            self.advance(entries)
        except Exception as error:  # a failure must reach whoever waits, and must not end the engine
            if len(entries) == 1:
                self.fail(entries[0], error)
            for entry in entries if len(entries) > 1 else ():
                if not entry.future.done():
                    self.step([entry])

    def admit(self) -> bool:
        """Waits for work and takes it in; False once drained."""
        with self.wake:
            while not self.waiting and not self.running and (self.reserved or not self.draining):
                self.wake.wait()
            self.fill()
            return bool(self.running or self.waiting or self.reserved or not self.draining)

    def fill(self) -> None:
        """Moves waiting images in, in order, while the token budget lasts; one always fits. Cancelled ones are dropped."""
        self.running = [entry for entry in self.running if not entry.future.done()]
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
        prompts = [request.prompt_embeds, request.negative_embeds] if entry.guided else [request.prompt_embeds]
        return sum(area + prompt.shape[0] for prompt in prompts if prompt is not None)

    def advance(self, entries: list[Running]) -> None:
        """One Euler step of every image, then decoding of the finished ones."""
        for entry in entries:
            if entry.latent is None:
                self.start(entry)
        moving = [entry for entry in entries if entry.step < entry.request.num_steps]
        for entry, velocity in zip(moving, self.velocities(moving), strict=True):
            assert entry.latent is not None
            entry.latent = euler_step(entry.latent, velocity, entry.sigmas[entry.step], entry.sigmas[entry.step + 1])
            entry.step += 1
        self.release([entry for entry in entries if entry.step == entry.request.num_steps])

    def start(self, entry: Running) -> None:
        """Draws the noise of one image from its own generator and lays out its schedule."""
        width, height = entry.request.size_px
        size = (height // self.bundle.stride, width // self.bundle.stride)
        noise = draw_noise([entry.request.seed], [size], self.bundle.transformer.config.in_channels)[0]
        # diffusers draws noise in the weights' dtype, which is the fp32 draw rounded; latents stay fp32 between steps.
        entry.latent = noise.to(self.bundle.transformer.dtype).to(self.device, torch.float32)
        entry.sigmas = schedule(entry.request.num_steps, self.bundle.defaults.shift).to(self.device)

    def velocities(self, entries: list[Running]) -> list[Tensor]:
        """Guided velocity [C, h, w] of every image, from one packed pass: conditional ones first, then the negatives."""
        if not entries:
            return []
        guided = [index for index, entry in enumerate(entries) if entry.guided]
        passes = [*entries, *(entries[index] for index in guided)]
        negatives = [entries[index].request.negative_embeds for index in guided]
        prompts = [prompt for prompt in (*(entry.request.prompt_embeds for entry in entries), *negatives) if prompt is not None]
        timesteps = torch.stack([entry.sigmas[entry.step] * TIMESTEP_SCALE for entry in passes])
        latents = [entry.latent for entry in passes if entry.latent is not None]
        pack: Pack = pack_samples(latents, [prompt.to(self.device) for prompt in prompts], timesteps)
        predicted = pack.unpack(self.bundle.transformer(pack).float())
        velocities = predicted[: len(entries)]
        for negative, index in enumerate(guided, start=len(entries)):
            velocities[index] = guide(velocities[index], predicted[negative], entries[index].request.guidance_scale)
        return velocities

    def release(self, finished: list[Running]) -> None:
        """Hands finished latents to the decoder."""
        done = {id(entry) for entry in finished}
        with self.wake:
            self.running = [entry for entry in self.running if id(entry) not in done]
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

    def fail(self, entry: Running, error: Exception) -> None:
        """Hands an error to the image's request."""
        with self.wake:
            self.running = [other for other in self.running if other is not entry]
        if entry.future.set_running_or_notify_cancel():
            entry.future.set_exception(error)
