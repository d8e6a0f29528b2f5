"""Makes the autoencoder payload and measures what survives it: ground-truth scenes are encoded, decoded and judged.

Whatever the autoencoder loses, no model behind it can paint; so its loss is measured first and bounded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imagewright.config.vae import VaeConfig
from imagewright.data.pixels import PixelSet, load_pixels
from imagewright.errors import InputError, Problem
from imagewright.evaluation.scene_judge import judge, prompt_from_scene
from imagewright.jobs.job import Outcome
from imagewright.models.vae import Autoencoder, digest, load_vae, save_vae
from imagewright.models.vae_training import measure_psnr, reconstruct, train_vae
from imagewright.tracking.job_run import JobRun

HELD_OUT_SPLITS = ("validation", "holdout_compositional")
ENOUGH_STATISTICS = 4096


class VaeQualityError(InputError):
    """An autoencoder through which too few scenes stay what they were."""


def make_vae(config: VaeConfig, curated: Path, output: Path, work: Path, seed: int, run: JobRun) -> Outcome:
    """Trains the autoencoder, or loads config.source; writes `output/vae` and `output/metrics.json`.

    Raises VaeQualityError when fewer than config.min_judged_accuracy of the held-out scenes survive encode-decode.
    """
    held_out = load_pixels(
        curated, side_px=config.resolution_px, splits=HELD_OUT_SPLITS, limit=config.judged_images, seed=seed, only_scenes=True
    )
    tensor = as_tensor(held_out.images)
    counts: dict[str, int] = {"num_held_out": len(held_out.rows)}
    if config.source:
        vae = load_vae(config.source)
        metrics = {"validation/psnr_db": measure_psnr(vae, tensor, config.batch_size)}
    else:
        pool = load_pixels(curated, side_px=config.resolution_px, splits=("train",), limit=config.max_images, seed=seed)
        counts |= {
            "num_in": len(pool.rows) + sum(pool.dropped.values()),
            "num_kept": len(pool.rows),
            "num_dropped": sum(pool.dropped.values()),
        }
        log = run.log_metrics
        vae, measured = train_vae(config, as_tensor(pool.images), tensor, work=work, seed=seed, log=log)
        metrics = {"train/loss": measured.loss, "validation/psnr_db": measured.psnr_db}
        counts |= {"num_steps": measured.steps, "num_statistics_images": measured.statistics_images}
        if measured.statistics_images < ENOUGH_STATISTICS:
            detail = f"from {measured.statistics_images} encodings; below {ENOUGH_STATISTICS} the stored mean and variance are rough"
            run.log_event("vae_statistics", measured.steps, detail)
    metrics |= judged_accuracy(vae, held_out, config.batch_size)
    run.log_metrics(metrics, counts.get("num_steps", 0))
    save_vae(vae, output / "vae")
    write_metrics(output / "metrics.json", metrics, counts, digest(vae))
    require_accuracy(metrics["validation/judged_accuracy"], config.min_judged_accuracy)
    return Outcome(counts=counts, metrics=metrics)


def require_accuracy(measured: float, minimum: float) -> None:
    """Raises VaeQualityError below the minimum."""
    if measured < minimum:
        fix = "train longer (vae.steps), give it more vae.latent_channels, or draw larger shapes"
        raise VaeQualityError(Problem("vae.min_judged_accuracy", f"must be reached ({minimum})", round(measured, 4), fix))


def judged_accuracy(vae: Autoencoder, scenes: PixelSet, batch_size: int) -> dict[str, float]:
    """Share of scenes judged right after encode-decode, and before it (the judge's own ceiling on the same images)."""
    decoded = as_images(reconstruct(vae, as_tensor(scenes.images), batch_size))
    prompts = [prompt_from_scene(row.scene) for row in scenes.rows]
    return {
        "validation/judged_accuracy": float(np.mean([judge(image, prompt) for image, prompt in zip(decoded, prompts, strict=True)])),
        "validation/judged_ceiling": float(np.mean([judge(image, prompt) for image, prompt in zip(scenes.images, prompts, strict=True)])),
    }


def as_tensor(images: NDArray[np.uint8]) -> Tensor:
    """[N, H, W, 3] uint8 -> tensor [N, 3, H, W] uint8."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def as_images(tensor: Tensor) -> NDArray[np.uint8]:
    """Tensor [N, 3, H, W] uint8 -> [N, H, W, 3] uint8."""
    return np.ascontiguousarray(tensor.numpy().transpose(0, 2, 3, 1))


def write_metrics(path: Path, metrics: Mapping[str, float], counts: Mapping[str, int], vae_digest: str) -> None:
    """Writes what was measured beside the weights."""
    tree: dict[str, Any] = {"metrics": dict(metrics), "counts": dict(counts), "vae_digest": vae_digest}
    path.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
