"""Trains the small autoencoder on images of the corpus: reconstruction plus a weak KL, cosine learning rate, resumable.

After training it sets the stored statistics, freezes, and measures what survives an encode-decode pass.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from imagewright.config.vae import VaeConfig
from imagewright.models.vae import Autoencoder, build_vae, freeze, set_statistics

STATE_FILE = "vae_training.pt"
LOG_EVERY_STEPS = 20
ADAM_BETAS = (0.9, 0.99)

LogMetrics = Callable[[dict[str, float], int], None]


@dataclass(frozen=True)
class VaeMeasurements:
    """What training ended with. psnr_db over held-out images; statistics_images behind the stored mean and variance."""

    steps: int
    loss: float
    psnr_db: float
    statistics_images: int


def learning_rate_at(config: VaeConfig, step: int) -> float:
    """Linear warm-up, then cosine to zero at config.steps."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def reconstruction_loss(config: VaeConfig, decoded: Tensor, images: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """l1 |x' - x| + mse (x' - x)^2 + kl * 0.5 (mu^2 + var - 1 - log var), each a mean over its values; images [B, 3, H, W] in -1..1.

    Source: Kingma and Welling, Auto-Encoding Variational Bayes, equation 10.
    """
    error = decoded - images
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    return config.l1_weight * error.abs().mean() + config.mse_weight * error.square().mean() + config.kl_weight * divergence


def to_input(images: Tensor) -> Tensor:
    """uint8 [B, 3, H, W] -> float32 in -1..1."""
    return images.float().div_(127.5).sub_(1)


def to_pixels(images: Tensor) -> Tensor:
    """float [B, 3, H, W] in -1..1 -> uint8, rounded."""
    return images.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def train_vae(
    config: VaeConfig, images: Tensor, held_out: Tensor, *, work: Path, seed: int, log: LogMetrics
) -> tuple[Autoencoder, VaeMeasurements]:
    """Trains on uint8 images [N, 3, H, W]; returns the frozen autoencoder with statistics set.

    A checkpoint under `work` lets a killed run go on where it stopped; the batch of a step depends on (seed, step) only.
    """
    torch.manual_seed(seed)
    vae = build_vae(config).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=config.learning_rate, betas=ADAM_BETAS, weight_decay=0.0)
    state = work / STATE_FILE
    first = restore(state, config, vae, optimizer)
    loss_value = math.nan
    for step in range(first, config.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(config, step)
        generator = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
        batch = draw_batch(images, config.batch_size, generator)
        loss, grad_norm = train_step(config, vae, optimizer, batch, generator)
        if step % LOG_EVERY_STEPS == 0 or step + 1 == config.steps:
            loss_value = float(loss)
            log(
                {"train/loss": loss_value, "train/grad_norm": float(grad_norm), "train/learning_rate": learning_rate_at(config, step)}, step
            )
        if (step + 1) % config.checkpoint_every_steps == 0 or step + 1 == config.steps:
            save_state(state, config, vae, optimizer, step + 1)
    freeze(vae)
    counted = set_statistics(vae, statistics_batches(config, images))
    psnr = measure_psnr(vae, held_out, config.batch_size)
    log({"validation/psnr_db": psnr}, config.steps)
    return vae, VaeMeasurements(config.steps, loss_value, psnr, counted)


def train_step(
    config: VaeConfig, vae: Autoencoder, optimizer: torch.optim.Optimizer, batch: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """One optimizer step on float images [B, 3, H, W]; returns (loss, gradient norm)."""
    posterior = vae.encode(batch).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=generator)
    decoded = vae.decode(posterior.mean + posterior.std * noise, return_dict=False)[0]
    loss = reconstruction_loss(config, decoded, batch, posterior.mean, posterior.logvar)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    grad_norm = torch.nn.utils.clip_grad_norm_(vae.parameters(), config.max_grad_norm)
    optimizer.step()
    return loss.detach(), grad_norm


def draw_batch(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """A random batch [size, 3, H, W] in -1..1, each image mirrored with probability one half."""
    batch = to_input(images[torch.randint(len(images), (size,), generator=generator)])
    mirrored = torch.rand(size, 1, 1, 1, generator=generator) < 0.5
    return torch.where(mirrored, batch.flip(-1), batch).contiguous(memory_format=torch.channels_last)


def statistics_batches(config: VaeConfig, images: Tensor) -> Iterator[Tensor]:
    """Batches of float images, `statistics_images` in total; mirrored copies join when the corpus is smaller."""
    mirrored = torch.cat([images, images.flip(-1)]) if len(images) < config.statistics_images else images
    for start in range(0, min(config.statistics_images, len(mirrored)), 64):
        yield to_input(mirrored[start : min(start + 64, config.statistics_images)])


@torch.no_grad()
def reconstruct(vae: Autoencoder, images: Tensor, batch_size: int) -> Tensor:
    """uint8 [N, 3, H, W] -> the same images after encode-decode (posterior mode), uint8."""
    decoded = []
    for batch in torch.split(images, batch_size):
        latents = vae.encode(to_input(batch)).latent_dist.mode()
        decoded.append(to_pixels(vae.decode(latents, return_dict=False)[0].clamp(-1, 1)))
    return torch.cat(decoded)


def measure_psnr(vae: Autoencoder, images: Tensor, batch_size: int) -> float:
    """Peak signal to noise ratio in dB over uint8 images, from the mean squared error of all values."""
    error = (reconstruct(vae, images, batch_size).double() - images.double()).square().mean()
    return float(10 * torch.log10(255.0**2 / error.clamp_min(1e-12)))


def save_state(path: Path, config: VaeConfig, vae: Autoencoder, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Writes a checkpoint beside its final name, then renames it: a kill leaves the old or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save({"config": config.model_dump_json(), "step": step, "vae": vae.state_dict(), "optimizer": optimizer.state_dict()}, part)
    part.replace(path)


def restore(path: Path, config: VaeConfig, vae: Autoencoder, optimizer: torch.optim.Optimizer) -> int:
    """Loads a checkpoint of the same configuration and returns its step; 0 when there is none."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)  # our own file of this action key, tensors only
    if json.loads(state["config"]) != json.loads(config.model_dump_json()):
        return 0
    vae.load_state_dict(state["vae"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])
