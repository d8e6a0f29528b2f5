"""The card and the HTML report of a trained aesthetic model: figures, limits, and the pictures it likes most and least."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from imagewright.annotation.simulated import ORIGIN
from imagewright.annotation.simulated_ratings import Ratings
from imagewright.config.aes import AesConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imagewright.methods.aesthetic_run import Figures
    from imagewright.models.aesthetic import AestheticScorer

SHOWN = 12
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1d2733}"
    "table{border-collapse:collapse}td,th{padding:.3rem .8rem;border-bottom:1px solid #d5dbe1;text-align:left}"
    "img{width:72px;height:72px;image-rendering:pixelated;border:1px solid #d5dbe1}figure{display:inline-block;margin:.2rem}"
    "figcaption{font-size:.8rem;text-align:center}.note{background:#fff4d6;padding:.6rem 1rem;border-left:4px solid #c98a00}"
)
SIMULATED_NOTE = (
    "Every rating behind this model is simulated: an annotator in code preferred the picture of lower known damage and erred at a fixed "
    "rate. The figures say how well damage is recognised, not how well the model agrees with people."
)
TESTS = {
    "seen": "held-out concepts, seen damage",
    "unseen": "held-out concepts, unseen damage",
    "held_out": "held-out pictures",
}


@dataclass(frozen=True)
class Provenance:
    """Where the ratings behind a model come from, for card, report and metrics."""

    origin: Literal["simulated", "human"]
    note: str
    """First paragraph: what the figures do and do not say."""
    meaning: str
    """The same in one line."""
    facts: tuple[str, ...]
    """Lines of the card."""
    comparisons_per_image: float


def simulated_provenance(config: AesConfig, ratings: Ratings) -> Provenance:
    """Ratings by annotators in code."""
    facts = (
        f"ratings: {len(ratings.tiers)} images, {len(ratings.pairs)} comparisons ({ratings.comparisons_per_image:.1f} per image), "
        f"Swiss tournaments of about {config.tournament_images}, {config.annotator_flip:.0%} of choices reversed",
        f"damage trained on: {', '.join(config.seen_damages)}",
        f"damage never trained on: {', '.join(config.held_out_damages) or 'none'}",
    )
    meaning = "agreement with the known severity of simulated damage on held-out concepts; not with people's taste"
    return Provenance(ORIGIN, SIMULATED_NOTE, meaning, facts, ratings.comparisons_per_image)


def rows_of(figures: Mapping[str, Figures]) -> list[tuple[str, str, str, str, str]]:
    """One line per test set and per kind of picture in it: what, SRCC, PLCC, the baseline's SRCC, number of pictures."""
    rows = []
    for part, found in figures.items():
        measured = found.model
        rows.append((TESTS[part], str(measured.srcc), str(measured.plcc), str(found.baseline.srcc), str(measured.num)))
        rows += [(f"- {kind}", str(one.srcc), str(one.plcc), "", str(one.num)) for kind, one in found.by_kind.items()]
    return rows


def write_card(path: Path, config: AesConfig, figures: Mapping[str, Figures], baseline: str, provenance: Provenance) -> None:
    """The model card, Markdown."""
    lines = [
        f"# Aesthetic model ({config.backbone}, {config.side_px} px), trained on {provenance.origin} ratings",
        "",
        provenance.note,
        "",
        *(f"- {fact}" for fact in provenance.facts),
        f"- best single statistic on the training ratings: {baseline}",
        "",
        "| test | SRCC [95% interval] | PLCC [95% interval] | baseline SRCC | images |",
        "|---|---|---|---|---|",
        *("| " + " | ".join(row) + " |" for row in rows_of(figures)),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_report(
    path: Path,
    config: AesConfig,
    figures: Mapping[str, Figures],
    baseline: str,
    images: NDArray[np.uint8],
    scorer: AestheticScorer,
    note: str,
) -> Path:
    """One HTML file without outside references; returns its path."""
    table = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows_of(figures))
    sample = images[:512]
    scores = scorer.score(sample)
    order = np.argsort(-scores)
    best, worst = (gallery(sample[chosen], scores[chosen]) for chosen in (order[:SHOWN], order[::-1][:SHOWN]))
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Aesthetic model</title><style>{STYLE}</style>"
        f"<h1>Aesthetic model ({escape(config.backbone)})</h1><p class=note>{escape(note)}</p>"
        "<table><tr><th>test</th><th>SRCC [95% interval]</th><th>PLCC [95% interval]</th>"
        f"<th>baseline: {escape(baseline)}</th><th>images</th></tr>{table}</table>"
        f"<h2>Highest scores among {len(sample)} training pictures</h2>{best}<h2>Lowest scores</h2>{worst}</html>\n"
    )
    path.write_text(page, encoding="utf-8")
    return path


def gallery(images: NDArray[np.uint8], scores: NDArray[np.float64]) -> str:
    """Pictures with their scores, embedded."""
    return "".join(
        f'<figure><img alt="score {score:.0f}" src="data:image/png;base64,{png_base64(image)}">'
        f"<figcaption>{score:.0f}</figcaption></figure>"
        for image, score in zip(images, scores, strict=True)
    )


def png_base64(image: NDArray[np.uint8]) -> str:
    """RGB [H, W, 3] uint8 as base64 of a PNG."""
    _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return base64.b64encode(data.tobytes()).decode()
