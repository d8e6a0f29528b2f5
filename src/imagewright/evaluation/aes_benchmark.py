"""The aesthetic benchmark as a folder: images, ratings, and a card with the protocol; built from tournament results.

`images/KEY.png`, `ratings.parquet` (key, category, tier, num_ratings, origin), `benchmark.json`, `README.md`. Its form follows
ERNIE-Image-Aes-1K: tiers 1 to 10 from Swiss tournaments, one annotator a tournament, pooled as data only.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from imagewright.annotation.tournament import NUM_TIERS
from imagewright.data.images import BadImage, decode_rgb
from imagewright.errors import InputError, Problem

RATINGS_NAME, ABOUT_NAME, CARD_NAME, IMAGES_FOLDER = "ratings.parquet", "benchmark.json", "README.md", "images"
MIN_IMAGES = 3
MAX_IMAGE_BYTES = 32 << 20
MAX_ABOUT_BYTES = 1 << 20
MAX_TABLE_BYTES = 256 << 20
KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
UNNAMED = "unnamed"
Origin = Literal["human", "simulated"]


class BenchmarkError(InputError):
    """A benchmark that cannot be built or read."""


class About(BaseModel):
    """What `benchmark.json` says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["imagewright-aes-benchmark-1"] = "imagewright-aes-benchmark-1"
    name: str = Field(min_length=1, max_length=100)
    origin: Origin
    """`simulated` as soon as one rating is."""
    protocol: str = Field(min_length=1, max_length=10_000)
    """How the ratings were collected, for the card."""
    agreement: dict[str, float | int | None] = {}
    """How far annotators agree with each other, from the export."""


@dataclass(frozen=True)
class RatedImage:
    """One row. tier: mean over the tournaments that held it, 1..10."""

    key: str
    category: str
    tier: float
    num_ratings: int


@dataclass(frozen=True)
class AesBenchmark:
    """A benchmark on disk; images are decoded when asked for."""

    folder: Path
    about: About
    rows: tuple[RatedImage, ...]

    def image(self, key: str) -> NDArray[np.uint8]:
        """RGB uint8 [H, W, 3]. Raises BenchmarkError when the file is missing or no image."""
        path = image_path(self.folder, key)
        try:
            if path.stat().st_size > MAX_IMAGE_BYTES:
                raise BadImage("too_large", "more bytes than allowed")
            return decode_rgb(path.read_bytes())
        except (OSError, BadImage) as error:
            raise BenchmarkError(Problem("benchmark.images", f"cannot be read: {error}", path.name, "build the benchmark again")) from error


def build_benchmark(
    folder: Path,
    ratings: Sequence[Mapping[str, object]],
    images: Mapping[str, bytes],
    *,
    name: str,
    protocol: str,
    agreement: Mapping[str, float | int | None] | None = None,
    per_category: int = 0,
) -> AesBenchmark:
    """Writes a benchmark of rated images and reads it back. ratings: rows of an export (`item` or `sample_key`, category, tier, origin).

    per_category: at most so many images of a category, spread evenly over its tiers; 0 takes all. Raises BenchmarkError, naming every
    rating that cannot be used, for constant ratings, and when images are missing.
    """
    pooled, origin = pool_ratings(ratings)
    rows = choose(pooled, per_category)
    missing = sorted(row.key for row in rows if row.key not in images)
    if missing:
        raise BenchmarkError(Problem("images", f"must hold every rated image; {len(missing)} are missing", missing[:5], "add KEY.png"))
    check_rows(rows)
    about = About(name=name, origin=origin, protocol=protocol, agreement=dict(agreement or {}))
    (folder / IMAGES_FOLDER).mkdir(parents=True, exist_ok=False)
    for row in rows:
        image_path(folder, row.key).write_bytes(as_png(row.key, images[row.key]))
    table = {
        "key": [row.key for row in rows],
        "category": [row.category for row in rows],
        "tier": [row.tier for row in rows],
        "num_ratings": [row.num_ratings for row in rows],
        "origin": [origin] * len(rows),
    }
    pq.write_table(pa.table(table), folder / RATINGS_NAME)
    (folder / CARD_NAME).write_text(card(about, rows), encoding="utf-8")
    (folder / ABOUT_NAME).write_text(about.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return read_benchmark(folder)


def as_png(key: str, data: bytes) -> bytes:
    """Pixels of any image file as PNG. Raises BenchmarkError when it is none."""
    try:
        pixels = decode_rgb(data)
    except BadImage as error:
        raise BenchmarkError(Problem("images", f"must be images: {error}", key, "replace the file")) from error
    return cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()


def pool_ratings(ratings: Sequence[Mapping[str, object]]) -> tuple[list[RatedImage], Origin]:
    """One row per image: tiers of several annotators are averaged, never their games. Raises BenchmarkError for unusable rows."""
    problems: list[Problem] = []
    tiers: dict[str, list[float]] = defaultdict(list)
    categories: dict[str, str] = {}
    origins: set[object] = set()
    for number, rating in enumerate(ratings):
        key, tier = str(rating.get("item") or rating.get("sample_key") or ""), rating.get("tier")
        if not KEY.fullmatch(key):
            problems.append(Problem(f"ratings[{number}].item", "must be a plain file name", key, "rename the image"))
        elif not isinstance(tier, int | float) or not 1 <= tier <= NUM_TIERS:  # NaN is outside too
            problems.append(Problem(f"ratings[{number}].tier", f"must lie in 1..{NUM_TIERS}", tier, "export the tournament again"))
        elif rating.get("origin") not in ("human", "simulated"):
            problems.append(Problem(f"ratings[{number}].origin", "must be human or simulated", rating.get("origin"), "say who rated"))
        else:
            tiers[key].append(float(tier))
            categories[key] = str(rating.get("category") or UNNAMED)
            origins.add(rating["origin"])
    if problems:
        raise BenchmarkError(problems[:20])
    rows = [RatedImage(key, categories[key], sum(found) / len(found), len(found)) for key, found in sorted(tiers.items())]
    return rows, "simulated" if "simulated" in origins or not origins else "human"


def choose(rows: Sequence[RatedImage], per_category: int) -> list[RatedImage]:
    """At most per_category rows of each category, at even steps through its tiers; all rows for 0."""
    if per_category <= 0:
        return list(rows)
    groups: dict[str, list[RatedImage]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row.tier, row.key)):
        groups[row.category].append(row)
    chosen = []
    for group in groups.values():
        steps = np.linspace(0, len(group) - 1, min(per_category, len(group))).round().astype(int)
        chosen += [group[int(step)] for step in steps]
    return sorted(chosen, key=lambda row: row.key)


def check_rows(rows: Sequence[RatedImage]) -> None:
    """Raises BenchmarkError for too few images and for ratings that order nothing."""
    if len(rows) < MIN_IMAGES:
        raise BenchmarkError(Problem("ratings", f"needs at least {MIN_IMAGES} rated images", len(rows), "hold a larger tournament"))
    if len({row.tier for row in rows}) == 1:
        raise BenchmarkError(Problem("ratings", "must not all be the same", rows[0].tier, "constant ratings order nothing; collect votes"))


def read_benchmark(folder: Path) -> AesBenchmark:
    """Reads what `build_benchmark` wrote. Raises BenchmarkError when it is not that."""
    fix = "build one with `imagewright aes build-benchmark`"
    try:
        about_path, table_path = folder / ABOUT_NAME, folder / RATINGS_NAME
        if about_path.stat().st_size > MAX_ABOUT_BYTES or table_path.stat().st_size > MAX_TABLE_BYTES:
            raise ValueError("it is larger than a benchmark can be")
        about = About.model_validate_json(about_path.read_bytes())
        found = pq.read_table(table_path).to_pylist()
        rows = tuple(RatedImage(str(row["key"]), str(row["category"]), float(row["tier"]), int(row["num_ratings"])) for row in found)
    except (OSError, ValidationError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise BenchmarkError(Problem("benchmark", f"is no aesthetic benchmark: {error}", str(folder), fix)) from error
    bad = [row.key for row in rows if not KEY.fullmatch(row.key) or not 1 <= row.tier <= NUM_TIERS]
    if bad or len({row.key for row in rows}) != len(rows):
        raise BenchmarkError(Problem("benchmark", "must name each image once, with a tier in 1..10", bad[:5], fix))
    check_rows(rows)
    return AesBenchmark(folder, about, rows)


def image_path(folder: Path, key: str) -> Path:
    """Where an image lies; keys are plain file names, so it stays inside the folder."""
    return folder / IMAGES_FOLDER / f"{key}.png"


def card(about: About, rows: Sequence[RatedImage]) -> str:
    """The dataset card, Markdown."""
    counts = Counter(row.category for row in rows)
    note = (
        ["**The ratings are simulated**: annotators in code, no person has judged these images.", ""] if about.origin == "simulated" else []
    )
    lines = [
        f"# {about.name}",
        "",
        *note,
        f"{len(rows)} images in {len(counts)} categories, tiers 1 (worst) to {NUM_TIERS} (best), origin: {about.origin}.",
        "",
        "## Protocol",
        "",
        about.protocol,
        "",
        "| category | images | share | mean tier |",
        "|---|---|---|---|",
    ]
    for category, count in counts.most_common():
        mean = sum(row.tier for row in rows if row.category == category) / count
        lines.append(f"| {category} | {count} | {count / len(rows):.1%} | {mean:.2f} |")
    if about.agreement:
        lines += ["", "## Agreement of annotators", "", "```json", json.dumps(about.agreement, indent=2, sort_keys=True), "```"]
    return "\n".join(lines) + "\n"
