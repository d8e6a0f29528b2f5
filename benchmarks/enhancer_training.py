"""Where do the seconds of the demo's prompt enhancer go, and what does it learn in them?

The captions are those of the demo's sources, without their pictures. Phases are measured in CPU seconds, which other work on the machine
changes little. The payload it leaves is what `benchmarks/prompt_enhancer.py --trained` reads.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import transformers

from imagewright.config.recipe import load_recipe
from imagewright.config.tree import Config
from imagewright.curation.enhancer_pairs import held_out_prompts, training_pairs
from imagewright.data.manifest import ManifestRow, write_manifest
from imagewright.evaluation.enhancer_quality import EnhancerQuality
from imagewright.methods.enhancer_run import EnhancerRun, fine_tune, quality
from imagewright.models.language_model import load_language_model, save_language_model
from imagewright.sources import emoji, posters
from imagewright.sources.samples import stream
from imagewright.sources.scene_captions import captions_of
from imagewright.sources.scenes import HOLDOUT_TASKS, SOURCE, compose_scene
from imagewright.tracking.job_run import NullRun


class Phases:
    """CPU and wall seconds of named parts."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.cpu = self.wall = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measures what is done inside."""
        cpu, wall = time.process_time(), time.monotonic()
        yield
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        self.cpu, self.wall = self.cpu + cpu, self.wall + wall
        self.lines.append(f"{name:<28} {cpu:7.1f} CPU s  {wall:7.1f} s wall")
        print(self.lines[-1], flush=True)


def caption_rows(config: Config) -> Iterator[ManifestRow]:
    """The demo's pool as curated rows, nothing dropped: splits and captions of its sources."""
    scenes = config.data.scenes
    for index in range(scenes.num_samples):
        rng = stream(config.seed, SOURCE, index)
        draw = rng.random()
        held_out = draw < scenes.holdout_fraction
        validation = draw < scenes.holdout_fraction + scenes.validation_fraction
        tasks = tuple(task for task in scenes.tasks if task in HOLDOUT_TASKS) if held_out else scenes.tasks
        spec = compose_scene(rng, tasks[int(rng.integers(len(tasks)))], held_out=held_out, freedom=scenes.layout_freedom)
        split = "holdout_compositional" if held_out else "validation" if validation else "train"
        yield row(f"scene-{index}", SOURCE, split, captions=captions_of(spec, rng, scenes.languages), scene=spec.to_json())
    section = config.data.emoji
    for drawn in emoji.list_emoji(section.num_concepts, skin_tones=section.skin_tones):
        for style in section.styles:
            split = "holdout_concept" if emoji.is_concept_held_out(drawn.base, section.holdout_fraction) else "train"
            yield row(f"{style}-{drawn.codepoints}", style, split, captions=emoji.emoji_captions(drawn, style))
    for index in range(config.data.posters.num_samples):
        layout = posters.compose_poster(stream(config.seed, posters.SOURCE, index), config.data.posters.languages)
        yield row(f"poster-{index}", posters.SOURCE, "train", captions=posters.poster_captions(layout))


def row(key: str, source: str, split: str, **parts: object) -> ManifestRow:
    """A manifest row that points nowhere: only its captions are read."""
    return replace(ManifestRow(key, "0.tar", 0, 1, "0" * 64), source=source, split=split, **parts)


def summary(name: str, found: EnhancerQuality | None) -> str:
    """Pass and fallback rate with their counts."""
    if found is None:
        return f"{name}: not measured"
    total = len(found.prompts)
    return f"{name}: {found.num_passed} of {total} first answers pass, {found.num_fallbacks} fall back, broke {dict(found.reasons())}"


def main() -> None:
    """Trains as the demo does and prints the phases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--payload", type=Path, required=True, help="new folder for `pe/` and `pe_tokenizer/`")
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a deviation from the recipe")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/enhancer_training.txt"))
    options = parser.parse_args()
    recipe = load_recipe(options.recipe, options.set)
    config, phases = recipe.enhancer, Phases()
    curated, work = options.payload / "curated", options.payload / "work"
    curated.mkdir(parents=True)
    write_manifest(curated / "manifest.parquet", list(caption_rows(recipe)))
    settings = EnhancerRun(config, recipe.training, curated, work, recipe.seed)
    torch.manual_seed(recipe.seed)
    with phases.part("pairs"):
        pairs, _ = training_pairs(curated, config.pairs, recipe.seed)
        seen = {pair.prompt for pair in pairs}
        prompts = held_out_prompts(curated, config.pairs, config.validation_prompts, recipe.seed, seen)
    with phases.part("load"):
        language_model = load_language_model(config)
    with phases.part("untrained on held-out"):
        before = quality(language_model, prompts, config)
    with phases.part(f"train {config.steps} steps"):
        result, _ = fine_tune(language_model, pairs, settings, NullRun(), None)
    with phases.part("save"):
        save_language_model(language_model, options.payload)
    with phases.part("trained on held-out"):
        after = quality(language_model, prompts, config)
    words = float(np.mean([len(pair.caption.split()) for pair in pairs]))
    lines = [
        f"{platform.machine()}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads, load average {os.getloadavg()[0]:.1f}",
        f"torch {torch.__version__}, transformers {transformers.__version__}",
        f"recipe {options.recipe} {' '.join(options.set)}",
        f"{config.steps} steps of {config.batch_size} out of {len(pairs)} pairs, {words:.1f} words a caption",
        *phases.lines,
        f"{'together':<28} {phases.cpu:7.1f} CPU s  {phases.wall:7.1f} s wall",
        f"last loss {result.last_loss:.3f}, " + ", ".join(f"{name} {value:.3f}" for name, value in result.validation.items()),
        summary("untrained", before),
        summary("trained", after),
    ]
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
