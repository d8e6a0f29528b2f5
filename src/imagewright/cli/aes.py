"""`imagewright aes`: build an aesthetic benchmark from votes, and put scorers on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from imagewright.errors import InputError, Problem

if TYPE_CHECKING:
    from imagewright.evaluation.aes_quality import Scorer

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
MAX_IMAGE_BYTES = 32 << 20
MAX_AGREEMENT_BYTES = 1 << 20
PROTOCOL = (
    "Swiss-system tournaments over pairs of images, one annotator a tournament after a calibration test, ceil(log2 N) + 2 rounds, "
    "Buchholz tie-break, tiers as ten equal shares of the final standings; an image of several tournaments has the mean of its tiers."
)

app = typer.Typer(no_args_is_help=True, help="The aesthetic benchmark: build it from votes, put scorers on it.")


@app.command("build-benchmark")
def build(
    votes: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder of `imagewright annotate export`.")],
    images: Annotated[Path, typer.Option("--images", exists=True, file_okay=False, help="Folder with one file per image: KEY.png.")],
    output: Annotated[Path, typer.Option("--output", help="Folder to make.")],
    name: Annotated[str, typer.Option("--name", help="Name in the card.")] = "Aes benchmark",
    protocol: Annotated[str, typer.Option("--protocol", help="How the votes were collected, for the card.")] = PROTOCOL,
    per_category: Annotated[int, typer.Option("--per-category", min=0, help="Most images of a category; 0 takes all.")] = 0,
) -> None:
    """Make a benchmark of images, tiers, categories and a card from tournament results."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from imagewright.evaluation.aes_benchmark import build_benchmark

    try:
        ratings = pq.read_table(votes / "ratings.parquet").to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise InputError(Problem("votes", f"must hold ratings.parquet: {error}", str(votes), "export a tournament first")) from error
    wanted = {str(row.get("item") or row.get("sample_key")) for row in ratings}
    found = {path.stem: path for path in sorted(images.iterdir()) if path.suffix.lower() in IMAGE_ENDINGS and path.stem in wanted}
    if large := [path.name for path in found.values() if path.stat().st_size > MAX_IMAGE_BYTES]:
        raise InputError(Problem("images", f"must be at most {MAX_IMAGE_BYTES} bytes each", large[:5], "make them smaller"))
    data = {key: path.read_bytes() for key, path in found.items()}
    made = build_benchmark(output, ratings, data, name=name, protocol=protocol, agreement=read_agreement(votes), per_category=per_category)
    Console().print(f"{output}: {len(made.rows)} images, origin {made.about.origin}", markup=False, highlight=False, soft_wrap=True)


@app.command("benchmark")
def benchmark(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Benchmark folder.")],
    scorers: Annotated[
        list[str], typer.Option("--scorer", help="Folder of an aesthetic model, or a picture statistic such as `sharpness`; repeat it.")
    ],
    output: Annotated[Path, typer.Option("--output", help="Folder for results.json and report.html.")] = Path("aes-benchmark"),
    seed: Annotated[int, typer.Option("--seed", help="Seed of the bootstrap.")] = 0,
) -> None:
    """Put scorers on a benchmark: agreement with intervals, bias per category, and what fools them."""
    from imagewright.evaluation.aes_benchmark import read_benchmark
    from imagewright.evaluation.aes_benchmark_run import run_benchmark, write_result

    loaded = read_benchmark(folder)
    named = [(name, open_scorer(name)) for name in scorers]
    results = [run_benchmark(loaded, scorer, name, seed=seed) for name, scorer in named]
    page = write_result(output, results)
    shown = Table("scorer", "SRCC [95%]", "PLCC [95%]", "fooled by", title=f"{loaded.about.name} ({loaded.about.origin} ratings)")
    for result in results:
        fooled = ", ".join(found.name for found in result.stresses if found.fools) or "nothing"
        shown.add_row(result.scorer, str(result.overall.srcc), str(result.overall.plcc), fooled)
    Console().print(shown)
    Console().print(f"report: {page}", markup=False, highlight=False)


def open_scorer(name: str) -> Scorer:
    """A picture statistic by its name, or a model payload. Raises InputError when it is neither."""
    from imagewright.evaluation.aes_quality import STATISTICS, StatisticScorer

    if name in STATISTICS:
        return StatisticScorer(name)
    if not Path(name).is_dir():
        fix = f"give the folder of a model payload, or one of {', '.join(STATISTICS)}"
        raise InputError(Problem("scorer", "must be a model folder or a picture statistic", name, fix))
    from imagewright.models.aesthetic import load_scorer

    return load_scorer(Path(name))


def read_agreement(votes: Path) -> dict[str, float | int | None]:
    """Numbers of the export's agreement.json; empty when there is none."""
    path = votes / "agreement.json"
    if not path.is_file() or path.stat().st_size > MAX_AGREEMENT_BYTES:
        return {}
    tree = json.loads(path.read_text(encoding="utf-8"))
    values = {**tree, **(tree.get("pair_agreement") or {})}
    return {name: value for name, value in values.items() if value is None or type(value) in (int, float)}
