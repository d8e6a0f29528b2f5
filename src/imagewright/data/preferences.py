"""Preference pairs on disk: a folder of encoded samples with `pairs.parquet` beside them, and the audit every set must pass.

Preference sampling and the annotation page write such folders, preference training reads them.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from imagewright.data.latents import CorruptSampleError, EncodedSample, LatentsDataset
from imagewright.errors import InputError, Problem

PAIRS_FILE = "pairs.parquet"
AUDIT_FILE = "audit.json"
SOURCES = ("human", "model", "synthetic")
MAX_PAIRS_BYTES = 1 << 30
MAX_AUDIT_BYTES = 8 << 20
HISTOGRAM_BINS = 10
MAX_PROBLEMS = 20
SCHEMA = pa.schema(
    [
        ("pair_id", pa.string()),
        ("prompt", pa.string()),
        ("chosen_key", pa.string()),
        ("rejected_key", pa.string()),
        ("source", pa.string()),
        ("margin", pa.float32()),
        ("chosen_score", pa.float32()),
        ("rejected_score", pa.float32()),
        ("scores", pa.string()),
        ("dimension", pa.string()),
    ]
)


class PreferenceError(InputError):
    """Pairs that cannot be trained on."""


@dataclass(frozen=True)
class Pair:
    """Two samples of one prompt. margin: chosen_score - rejected_score; 0 is a tie, kept for the record and not trained on."""

    pair_id: str
    prompt: str
    chosen_key: str
    rejected_key: str
    source: str
    """Who preferred: `human`, `model` (a scorer or a judge of samples), `synthetic` (made to differ)."""
    margin: float
    chosen_score: float
    rejected_score: float
    scores: str = "{}"
    """JSON: dimension -> [chosen, rejected]."""
    dimension: str = ""
    """The dimension in which they differ most."""


@dataclass(frozen=True)
class Audit:
    """What a set of pairs looks like."""

    pairs: int
    usable: int
    """Pairs that are no ties."""
    ties: int
    near_duplicates: int
    """Usable pairs whose members hardly differ."""
    margin_histogram: list[int]
    """Usable pairs by margin, equal bins from 0 to `margin_max`."""
    margin_max: float
    length_bias: float
    """Rank correlation of margin and prompt length: far from 0, long prompts weigh more or less than they should."""
    spread_bias: float
    """Mean log ratio of the members' latent spread (chosen over rejected): far from 0, contrast is what is preferred."""
    sources: dict[str, int]
    dimensions: dict[str, int]


def write_pairs(folder: Path, pairs: Iterable[Pair]) -> None:
    """Writes `pairs.parquet` beside the samples."""
    pq.write_table(pa.Table.from_pylist([asdict(pair) for pair in pairs], schema=SCHEMA), folder / PAIRS_FILE)


def read_pairs(folder: Path) -> list[Pair]:
    """Reads `pairs.parquet`. Raises PreferenceError when it is no such table."""
    path = folder / PAIRS_FILE
    try:
        if path.stat().st_size > MAX_PAIRS_BYTES:
            raise ValueError(f"larger than {MAX_PAIRS_BYTES} bytes")
        table = pq.read_table(path, columns=SCHEMA.names).cast(SCHEMA)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        fix = "build it with `imagewright job build-preferences`"
        raise PreferenceError(Problem("preferences", f"hold no readable {PAIRS_FILE}: {error}", str(folder), fix)) from error
    return [Pair(**row) for row in table.to_pylist()]


def usable_pairs(pairs: Sequence[Pair]) -> list[Pair]:
    """Pairs that are no ties."""
    return [pair for pair in pairs if pair.margin > 0]


def index_of(dataset: LatentsDataset) -> dict[str, int]:
    """Sample key -> index."""
    return {dataset.sample_key(index): index for index in range(len(dataset))}


def audit_pairs(folder: Path, near_duplicate_distance: float) -> Audit:
    """Reads every pair and its samples once.

    Raises PreferenceError with everything that makes the set unusable: equal or missing images, members of different prompts or sizes,
    a pair named twice, an unknown source, a margin that is no number or negative. A set without pairs is reported, not refused: the
    training that reads it has nothing to do.
    """
    pairs, problems = read_pairs(folder), []
    if not pairs:
        return Audit(0, 0, 0, 0, [0] * HISTOGRAM_BINS, 1.0, 0.0, 0.0, {}, {})
    dataset = LatentsDataset(folder)
    places = index_of(dataset)
    near, spreads, lengths = 0, [], []
    seen: Counter[str] = Counter(pair.pair_id for pair in pairs)
    problems += [Problem(name, "is the id of several pairs", count, "give every pair its own") for name, count in seen.items() if count > 1]
    for pair in pairs:
        found = members(dataset, places, pair)
        wrong = check_values(pair) + (check_members(pair, *found) if isinstance(found, tuple) else found)
        problems += wrong
        if not wrong and isinstance(found, tuple) and pair.margin > 0:
            near += latent_distance(*found) <= near_duplicate_distance
            spreads.append(math.log(spread(found[0]) / spread(found[1])))
            lengths.append(found[0].prompt_embeds.shape[0])
    if problems:
        raise PreferenceError(problems[:MAX_PROBLEMS])
    usable = usable_pairs(pairs)
    margins = np.array([pair.margin for pair in usable], dtype=np.float64)
    top = float(margins.max()) if len(margins) else 1.0
    return Audit(
        pairs=len(pairs),
        usable=len(usable),
        ties=len(pairs) - len(usable),
        near_duplicates=int(near),
        margin_histogram=np.histogram(margins, bins=HISTOGRAM_BINS, range=(0.0, top))[0].tolist(),
        margin_max=top,
        length_bias=rank_correlation(margins, np.array(lengths, dtype=np.float64)),
        spread_bias=float(np.mean(spreads)) if spreads else 0.0,
        sources=dict(Counter(pair.source for pair in usable)),
        dimensions=dict(Counter(pair.dimension for pair in usable)),
    )


def members(dataset: LatentsDataset, places: dict[str, int], pair: Pair) -> tuple[EncodedSample, EncodedSample] | list[Problem]:
    """Chosen and rejected sample, or what is missing."""
    absent = [key for key in (pair.chosen_key, pair.rejected_key) if key not in places]
    if absent:
        return [Problem(pair.pair_id, "names an image that is not in the set", absent, "write both images of every pair")]
    try:
        return dataset.read(places[pair.chosen_key]), dataset.read(places[pair.rejected_key])
    except CorruptSampleError as error:
        return list(error.problems)


def check_values(pair: Pair) -> list[Problem]:
    """What is wrong with a row on its own."""
    problems = []
    if pair.source not in SOURCES:
        problems.append(Problem(pair.pair_id, f"must have a source of {', '.join(SOURCES)}", pair.source, "say who preferred"))
    if not (math.isfinite(pair.margin) and pair.margin >= 0):
        problems.append(Problem(pair.pair_id, "must have a finite margin of 0 or more", pair.margin, "swap chosen and rejected"))
    return problems


def check_members(pair: Pair, chosen: EncodedSample, rejected: EncodedSample) -> list[Problem]:
    """What is wrong between the two samples."""
    problems = []
    if chosen.latents.shape != rejected.latents.shape:
        sizes = [list(chosen.latents.shape), list(rejected.latents.shape)]
        problems.append(Problem(pair.pair_id, "must have images of one size: both get the same noise", sizes, "sample both at one size"))
    elif torch.equal(chosen.latents, rejected.latents):
        problems.append(Problem(pair.pair_id, "must have two different images", pair.chosen_key, "drop this pair"))
    if not torch.equal(chosen.prompt_embeds, rejected.prompt_embeds):
        problems.append(Problem(pair.pair_id, "must have two images of the same prompt", pair.prompt, "pair samples of one prompt"))
    return problems


def latent_distance(chosen: EncodedSample, rejected: EncodedSample) -> float:
    """Root mean squared difference as a share of the root mean square of both."""
    first, second = chosen.latents.double(), rejected.latents.double()
    size = (first.square().mean() + second.square().mean()) / 2
    return float(((first - second).square().mean() / size.clamp_min(1e-12)).sqrt())


def spread(sample: EncodedSample) -> float:
    """Standard deviation of the latents, above 0."""
    return max(float(sample.latents.double().std(correction=0)), 1e-6)


def rank_correlation(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> float:
    """Spearman's coefficient; 0 where it is not defined."""
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    from scipy.stats import spearmanr

    return float(spearmanr(first, second).statistic)


def write_audit(folder: Path, audit: Audit, about: dict[str, Any]) -> None:
    """Writes `audit.json`: the audit and where the pairs come from."""
    content = {"audit": asdict(audit), **about}
    (folder / AUDIT_FILE).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_sampled_from(folder: Path) -> str:
    """Payload digest of the model whose samples these are, as `audit.json` names it; empty for a set made elsewhere, which has none.

    Raises PreferenceError when the file is there and says nothing that can be read.
    """
    path = folder / AUDIT_FILE
    if not path.exists():
        return ""
    try:
        if path.stat().st_size > MAX_AUDIT_BYTES:
            raise ValueError(f"larger than {MAX_AUDIT_BYTES} bytes")
        return str(json.loads(path.read_text(encoding="utf-8")).get("sampled_from", ""))
    except (OSError, ValueError, AttributeError) as error:
        fix = "build the pairs again with `imagewright job build-preferences`"
        raise PreferenceError(Problem("preferences", f"hold no readable {AUDIT_FILE}: {error}", str(folder), fix)) from error
