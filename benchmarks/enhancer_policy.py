"""Does the policy step raise the reward of the enhancer on held-out prompts, the image model frozen?

The fine-tuned payload of `benchmarks/enhancer_training.py` or of `imagewright job train-enhancer` learns from rewards of its own samples.
Reward before and after is compared on the same held-out prompts by greedy answers, with a paired interval. Without `--bundle` the image
model has random weights: its pictures cannot be improved by words, so the `judged` part only tests the path and adds noise.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import transformers
from enhancer_training import caption_rows

from imagewright.config.recipe import load_recipe
from imagewright.config.text_encoder import TextEncoderConfig
from imagewright.config.tree import Config
from imagewright.data.manifest import write_manifest
from imagewright.evaluation.generation import Generator, SamplerSettings
from imagewright.methods.enhancer_reward import picture_judge
from imagewright.methods.enhancer_run import EnhancerRun, improve
from imagewright.models.dit import ErnieImageDiT
from imagewright.models.language_model import load_saved
from imagewright.models.text_encoder import load_text_encoder
from imagewright.models.vae import build_vae, freeze, set_statistics
from imagewright.serving.bundle import load_bundle
from imagewright.tracking.job_run import NullRun

GUIDANCE_SCALE, SHIFT = 1.0, 4.0


def random_generator(config: Config, batch_size: int) -> Generator:
    """An untrained image model of the recipe's size; every parameter is drawn, because a fresh one outputs exactly 0."""
    torch.manual_seed(config.seed)
    vae = build_vae(config.vae)
    set_statistics(vae, [torch.rand(16, 3, 32, 32) * 2 - 1])
    model = ErnieImageDiT(config.model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.05)
    return Generator(model.eval().requires_grad_(False), freeze(vae), load_text_encoder(TextEncoderConfig()), "random", batch_size)


def bundled_generator(folder: Path, batch_size: int) -> Generator:
    """The image model of a bundle."""
    bundle = load_bundle(folder)
    return Generator(bundle.transformer, bundle.vae, bundle.text_encoder, str(folder), batch_size)


def run(options: argparse.Namespace, folder: Path) -> list[str]:
    """Trains and describes what came of it."""
    config = load_recipe("demo", [f"data.scenes.num_samples={options.scenes}", *options.set])
    policy = config.enhancer.policy.model_copy(
        update={"steps": options.steps, "measured_prompts": options.measured_prompts, "learning_rate": options.learning_rate}
    )
    section = config.enhancer.model_copy(update={"policy": policy})
    curated, work = folder / "curated", folder / "work"
    curated.mkdir()
    write_manifest(curated / "manifest.parquet", list(caption_rows(config)))
    batch_size = policy.prompts_per_step * policy.group_size
    generator = bundled_generator(options.bundle, batch_size) if options.bundle else random_generator(config, batch_size)
    side = section.pairs.sizes_px[0][0]
    judge = picture_judge(generator, SamplerSettings(policy.sampler_steps, GUIDANCE_SCALE, SHIFT, side), None, config.seed)
    language_model = load_saved(options.trained)
    settings = EnhancerRun(section, config.training, curated, work, config.seed, judge)
    started = time.process_time()
    found = improve(language_model, settings, NullRun(), None)
    low, high = found["enhancer/policy_gain_low"], found["enhancer/policy_gain_high"]
    verdict = "better" if low > 0 else "worse" if high < 0 else "no difference shown"
    return [
        f"{platform.machine()}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads, load average {os.getloadavg()[0]:.1f}",
        f"torch {torch.__version__}, transformers {transformers.__version__}, image model {options.bundle or 'with random weights'}",
        f"{policy.steps} steps of {policy.prompts_per_step} prompts x {policy.group_size} samples, rate {policy.learning_rate:g}, "
        f"{time.process_time() - started:.0f} CPU s with both measurements",
        f"held-out reward before {found['enhancer/policy_before']:.4f}, after {found['enhancer/policy_after']:.4f}, "
        f"gain {found['enhancer/policy_gain']:+.4f} [{low:+.4f}, {high:+.4f}]: {verdict}",
    ]


def main() -> None:
    """Prints and writes the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trained", type=Path, required=True, help="fine-tuned payload with `pe/` and `pe_tokenizer/`")
    parser.add_argument("--bundle", type=Path, help="bundle whose image model judges; random weights without it")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--learning-rate", type=float, default=1e-4, help="of the adapters")
    parser.add_argument("--measured-prompts", type=int, default=8, help="of every task and split")
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a deviation from the demo recipe")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/enhancer_policy.txt"))
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        lines = run(options, Path(folder))
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
