"""The dataset card: what the curated revision holds, where it comes from, under which licences, and what its scores mean."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from imagewright.config.curation import CurationConfig
from imagewright.curation.captioning import captioner_of
from imagewright.curation.funnel import Funnel
from imagewright.curation.look import AestheticPayload, describe_look

CARD_NAME = "README.md"


def write_card(output: Path, table: pa.Table, funnel: Funnel, section: CurationConfig, scorer: AestheticPayload | None = None) -> Path:
    """Writes the card as Markdown; returns its path. scorer: the aesthetic model the mix is weighed by."""
    kept = table.filter(pc.equal(table["drop_reason"], ""))
    captions = sum(len(cell) for cell in kept["captions"].to_pylist())
    lines = [
        "# Curated dataset",
        "",
        f"{funnel.num_kept} of {funnel.num_in} samples are kept, with {captions} captions.",
        f"Captioner: `{captioner_of(section.captioner).version}`.",
        "",
        "## Funnel",
        "",
        *markdown_table(["stage", "in", "out", "removed"], [[s.stage, s.num_in, s.num_out, reasons_text(s.reasons)] for s in funnel.steps]),
        "",
        "## Sources, splits and licences",
        "",
        *markdown_table(["source", "in", "kept"], [[name, *counts] for name, counts in funnel.sources.items()]),
        "",
        *markdown_table(["split", "in", "kept"], [[name, *counts] for name, counts in funnel.splits.items()]),
        "",
        *markdown_table(["licence", "kept"], [[name, count] for name, count in sorted(funnel.licences.items())]),
        "",
        "OpenMoji pictures are CC-BY-SA-4.0 (OpenMoji project); Noto Emoji pictures are Apache-2.0 (Google).",
        "",
        "## Taxonomy",
        "",
        f"Embedding: `{section.taxonomy.embedding}`. Categories were found by hierarchical k-means on kept training samples.",
        "",
        *markdown_table(["category", "in", "kept"], [[name, *counts] for name, counts in list(funnel.categories.items())[:200]]),
        "",
        "## What the scores mean",
        "",
        *describe_look(scorer),
        "- `score_agreement`: in-domain caption-image agreement, fitted on this pool out of fold; not CLIP.",
        "- `score_blur`, `score_entropy`, `score_border`, `score_blocking`, `score_text_coverage`: measured on pixels.",
        "",
    ]
    path = output / CARD_NAME
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def reasons_text(reasons: dict[str, int]) -> str:
    """ "blur 12, blank 3"."""
    return ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items(), key=lambda item: -item[1])) or "-"


def markdown_table(head: list[str], rows: list[list[object]]) -> list[str]:
    """Lines of a Markdown table; bars in cells are escaped."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *cells]]
