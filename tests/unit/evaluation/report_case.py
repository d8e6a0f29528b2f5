"""A report with every part filled, from made-up figures; for the tests of the page only."""

from __future__ import annotations

import io
import math

from PIL import Image

from imagewright.evaluation.report import ReportData, Verdict
from imagewright.evaluation.results import JudgeCard, ModelResult, Results, Score
from imagewright.storage.records import Record

TASKS = ("single", "two", "counting", "colors", "position", "color_attr")


def scores(level: float) -> list[Score]:
    """Six tasks and an overall for both splits."""
    found = []
    for split, drop in (("seen", 0.0), ("compositional", 0.15)):
        for index, task in enumerate((*TASKS, "overall")):
            value = max(0.0, level - drop - 0.04 * index)
            low, high = max(0.0, value - 0.08), min(1.0, value + 0.08)
            found.append(Score(suite="geneval", split=split, task=task, value=value, low=low, high=high, num_prompts=24, num_images=48))
    return found


def results() -> Results:
    """Three models on four prompts."""
    prompts = {
        f"scene-{i}": text
        for i, text in enumerate(("a red circle", "two blue stars", "a <script> & a cross", "a pink star above a green square"))
    }
    rows = [
        ModelResult(
            lineage=name,
            weights_digest=letter * 64,
            num_steps=20,
            guidance_scale=4.0,
            shift=4.0,
            seconds_per_image=0.05,
            scores=scores(level),
            per_prompt={key: min(1.0, level + 0.1 * (i % 2)) for i, key in enumerate(prompts)},
        )
        for name, letter, level in (("base", "a", 0.6), ("dpo", "b", 0.75), ("turbo", "c", 0.7))
    ]
    card = JudgeCard(
        name="scene judge",
        digest="d" * 64,
        num_images=300,
        ceiling=0.997,
        ceiling_through_vae=0.93,
        floors={"shuffled": 0.0, "attribute changed": 0.004, "blank": 0.0, "noise": 0.0},
        ceiling_through_vae_by_task=dict.fromkeys(TASKS, 0.93),
        confusion={
            "shape": {"circle": {"circle": 90, "star": 1}, "star": {"star": 80}},
            "colour": {"red": {"red": 70}, "pink": {"pink": 60, "purple": 2}},
        },
    )
    return Results(
        judge=card, prompts=prompts, images_per_prompt=2, resolution_px=32, models=rows, grid="grid.png", grid_prompts=list(prompts)
    )


def records() -> list[Record]:
    """Four steps, each made from the one before."""
    names = (("curate-manifest", "1"), ("train-vae", "2"), ("encode-latents", "3"), ("pretrain-dit", "4"))
    counts = {"num_in": 1000, "num_kept": 930, "num_dropped": 70, "num_dropped_blur": 30, "num_dropped_exact_duplicate": 40}
    found = []
    for index, (job, digit) in enumerate(names):
        inputs = {names[index - 1][0]: names[index - 1][1] * 64} if index else {}
        part = counts if job == "curate-manifest" else {}
        found.append(
            Record(
                job=job,
                kind="dataset",
                digest=digit * 64,
                size_bytes=12_345_678,
                inputs=inputs,
                counts=part,
                git_commit="f" * 40,
                wall_seconds=40.0 + 30 * index,
            )
        )
    return found


def grid_png() -> bytes:
    """A grid of three columns and four rows."""
    buffer = io.BytesIO()
    Image.effect_noise((3 * 66 - 2, 4 * 66 - 2), 60).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def full_report() -> ReportData:
    """Everything a report can show."""
    curve = [(step, 2 * math.exp(-step / 300) + 0.1 * math.sin(step)) for step in range(0, 1000, 10)]
    return ReportData(
        title="Run demo-1",
        recipe="demo",
        records=records(),
        results=results(),
        grid_png=grid_png(),
        curves={"pretrain-dit train/loss": curve, "train-vae validation/psnr_db": [(0, 12.0), (900, 25.6)]},
        gate=[
            Verdict("floor eval/geneval/overall >= 0.5", True, "0.70"),
            Verdict("no regression of eval/geneval/overall", False, "0.70 against 0.80"),
        ],
    )
