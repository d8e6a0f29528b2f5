"""Does the batching server lose or swap an image among many requests of mixed sizes and steps?

Every request's image is drawn alone first, by the sampler without a server. The server then answers all of them at once: each image
must be nearer to its own than to any other (0 lost, 0 swapped). The model is small, because the question is not about size.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from serving_load import Answer, Request, closed_loop, machine, mixed_requests, rate_of, server, verdict
from serving_peer import write_bundle

from imagewright.diffusion.sampler import sample
from imagewright.models.vae import decode
from imagewright.serving.bundle import Bundle, load_bundle
from imagewright.serving.decoding import to_bytes

PORT = 18435
CHUNK = 512


def draw_alone(bundle: Bundle, request: Request) -> np.ndarray:
    """The raw call: text encoder, sampler, decoder, for one image."""
    prompts = [request.prompt, ""] if request.guidance_scale != 1.0 else [request.prompt]
    embeds = bundle.text_encoder.encode(prompts)
    size = (request.size[1] // bundle.stride, request.size[0] // bundle.stride)
    latents = sample(
        bundle.transformer,
        embeds[:1],
        [size],
        channels=bundle.transformer.config.in_channels,
        seeds=[request.seed],
        num_steps=request.steps,
        shift=bundle.defaults.shift,
        guidance_scale=request.guidance_scale,
        negative_embeds=embeds[1:] or None,
    )
    return to_bytes(decode(bundle.vae, latents[0][None]))[0]


def misplaced(answers: Sequence[Answer], alone: dict[Request, np.ndarray]) -> tuple[int, float]:
    """(images nearer to another request's reference than to their own, largest difference from the own one in 1/255)."""
    by_size: dict[tuple[int, int], list[Request]] = defaultdict(list)
    for request in alone:
        by_size[request.size].append(request)
    swapped, worst = 0, 0.0
    for size, requests in by_size.items():
        place = {request: row for row, request in enumerate(requests)}
        references = torch.from_numpy(np.stack([alone[request].reshape(-1) for request in requests])).float()
        norms = references.square().sum(1)
        mine = [answer for answer in answers if answer.request.size == size]
        for start in range(0, len(mine), CHUNK):
            images = torch.from_numpy(np.stack([answer.image().reshape(-1) for answer in mine[start : start + CHUNK]]))
            own = torch.tensor([place[answer.request] for answer in mine[start : start + CHUNK]])
            nearest = (norms - 2 * images @ references.T).argmin(1)
            swapped += int((nearest != own).sum())
            worst = max(worst, float((images - references[own]).abs().max()))
    return swapped, worst


def exactness(bundle: Bundle, count: int, concurrency: int) -> list[str]:
    """Draws every request alone, asks the server for all of them, compares."""
    requests = mixed_requests(count)
    started = time.monotonic()
    alone = {request: draw_alone(bundle, request) for request in requests}
    drawn = time.monotonic() - started
    answers = asyncio.run(closed_loop(PORT, requests, concurrency))
    good = [answer for answer in answers if answer.status == 200]
    swapped, worst = misplaced(good, alone)
    lost = count - len({answer.request for answer in good})
    return [
        f"{count} requests at concurrency {concurrency} in {count / rate_of(answers):.0f} s (alone, one by one: {drawn:.0f} s)",
        verdict("lost requests", lost, 0, ""),
        verdict("swapped images", swapped, 0, ""),
        verdict("largest difference from the image drawn alone", worst, 1, "/255"),
    ]


def main() -> None:
    """Prints and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bundle", type=Path, help="diffusers folder; small random weights without it")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/serving_exactness.txt"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    lines = [machine(options.threads)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.bundle or write_bundle(Path(scratch), small=True)
        command = ["-m", "imagewright.cli.main", "serve", "--bundle", str(folder), "--port", str(PORT)]
        with server(command, PORT, options.threads):
            lines += exactness(load_bundle(folder), options.requests, options.concurrency)
    print("\n".join(lines))
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
