"""The funnel: how many samples each stage removed and why, examples of every reason, the category tree before and after."""

from __future__ import annotations

import base64
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa
from PIL import Image

from imagewright.curation.filters import STAGES, stage_of
from imagewright.curation.funnel_page import render_page
from imagewright.curation.sampling import CategoryShare
from imagewright.curation.stage import Partition
from imagewright.data.images import BadImage, decode_rgb
from imagewright.data.shards import ShardError, ShardReader

FUNNEL_NAME = "funnel.json"
PAGE_NAME = "funnel.html"
EXAMPLES_PER_REASON = 8
KEPT_EXAMPLES = 24
EXAMPLE_SIDE_PX = 96


@dataclass(frozen=True)
class Example:
    """One picture of the page."""

    sample_key: str
    caption: str
    picture: str
    """data: URI of a small PNG, or empty when the image cannot be shown."""
    note: str = ""


@dataclass(frozen=True)
class FunnelStep:
    """One stage of the funnel; num_out = num_in - sum(reasons)."""

    stage: str
    num_in: int
    num_out: int
    reasons: dict[str, int]


@dataclass(frozen=True)
class Funnel:
    """Everything the page and `imagewright data funnel` show."""

    num_in: int
    num_kept: int
    reasons: dict[str, int]
    steps: list[FunnelStep]
    sources: dict[str, list[int]]
    """Source -> [in, kept]."""
    splits: dict[str, list[int]]
    categories: dict[str, list[int]]
    """Category of the taxonomy -> [in, kept]."""
    licences: dict[str, int]
    examples: dict[str, list[Example]] = field(default_factory=dict)
    """Reason (empty: kept) -> pictures."""


def build_funnel(table: pa.Table, partitions: Sequence[Partition]) -> Funnel:
    """Counts a decided table and reads a few examples of every reason. Asserts that kept + dropped = in."""
    reasons = Counter(table["drop_reason"].to_pylist())
    num_kept = reasons.pop("", 0)
    steps: list[FunnelStep] = []
    left = table.num_rows
    for stage in STAGES:
        here = {reason: count for reason, count in sorted(reasons.items()) if stage_of(reason) == stage}
        steps.append(FunnelStep(stage, left, left - sum(here.values()), here))
        left -= sum(here.values())
    assert left == num_kept, "kept + dropped = in, to the row"
    return Funnel(
        num_in=table.num_rows,
        num_kept=num_kept,
        reasons=dict(reasons.most_common()),
        steps=steps,
        sources=in_and_kept(table, "source"),
        splits=in_and_kept(table, "split"),
        categories=in_and_kept(table, "category"),
        licences=dict(Counter(row["licence"] for row in table.select(["licence", "drop_reason"]).to_pylist() if not row["drop_reason"])),
        examples=pick_examples(table, partitions[0].shards_folder if partitions else Path()),
    )


def in_and_kept(table: pa.Table, column: str) -> dict[str, list[int]]:
    """Value -> [in, kept], most first."""
    counts: dict[str, list[int]] = {}
    for value, reason in zip(table[column].to_pylist(), table["drop_reason"].to_pylist(), strict=True):
        cell = counts.setdefault(value, [0, 0])
        cell[0] += 1
        cell[1] += reason == ""
    return dict(sorted(counts.items(), key=lambda item: (-item[1][0], item[0])))


def pick_examples(table: pa.Table, shards_folder: Path) -> dict[str, list[Example]]:
    """The first few samples of every reason in the order of their digests, so that they come from all over the pool."""
    rows = table.select(["sample_key", "sha256", "shard", "offset", "length", "drop_reason", "captions", "copy_of"]).to_pylist()
    rows.sort(key=lambda row: (row["sha256"], row["sample_key"]))
    found: dict[str, list[Example]] = {}
    with ShardReader(shards_folder) as reader:
        for row in rows:
            reason = row["drop_reason"]
            examples = found.setdefault(reason, [])
            if len(examples) < (EXAMPLES_PER_REASON if reason else KEPT_EXAMPLES):
                caption = min((caption["text"] for caption in row["captions"]), key=len, default="")
                note = f"copy of {row['copy_of']}" if row["copy_of"] else ""
                try:
                    picture = picture_uri(reader.read(row["shard"], row["offset"], row["length"], row["sha256"]))
                except (ShardError, BadImage):
                    picture = ""
                examples.append(Example(row["sample_key"], caption[:200], picture, note))
    return dict(sorted(found.items()))


def picture_uri(data: bytes) -> str:
    """A small PNG as data: URI. Raises BadImage."""
    image = Image.fromarray(decode_rgb(data))
    image.thumbnail((EXAMPLE_SIDE_PX, EXAMPLE_SIDE_PX))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def write_funnel(funnel: Funnel, shares: Sequence[CategoryShare], output: Path) -> Path:
    """Writes `funnel.json` (counts) and `funnel.html` (self-contained page); returns the page."""
    tree = asdict(funnel)
    del tree["examples"]
    tree["sampling"] = [asdict(share) for share in shares]
    (output / FUNNEL_NAME).write_text(json.dumps(tree, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    page = output / PAGE_NAME
    page.write_text(render_page(asdict(funnel), [asdict(share) for share in shares]), encoding="utf-8")
    return page
