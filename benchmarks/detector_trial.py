"""Is the packaged detector to be believed on photographs? Its trial on the photographed stamps of Tux Paint.

The stamps are Debian's package `tuxpaint-stamps-default` (GPL-2.0, not shipped here). Labels come from the stamps' names, chosen before
anything was detected; drawn stamps are left out.

    python benchmarks/detector_trial.py /usr/share/tuxpaint/stamps
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from imagewright.config.evaluation import BenchmarkFile, EvaluationConfig
from imagewright.evaluation.benchmarks.context import SuiteContext
from imagewright.evaluation.judges.detector import NAME, Detector
from imagewright.evaluation.judges.object_trial import object_cards, read_pictures
from imagewright.evaluation.judges.objects import ObjectJudge

STAMPS: dict[str, tuple[str, str | None]] = {
    "food/fruit/apple_red": ("apple", "red"),
    "food/fruit/apple_green": ("apple", "green"),
    "food/fruit/apple_granny_smith": ("apple", "green"),
    "food/fruit/apple_fuji": ("apple", None),
    "food/fruit/banana": ("banana", "yellow"),
    "food/fruit/orange": ("orange", "orange"),
    "food/fruit/orange_seville": ("orange", "orange"),
    "food/vegetables/broccoli": ("broccoli", "green"),
    "food/vegetables/carrot": ("carrot", "orange"),
    "food/pizza": ("pizza", None),
    "animals/birds/crow": ("bird", "black"),
    "animals/birds/blackbird": ("bird", "black"),
    "animals/birds/pink_flamingo": ("bird", "pink"),
    "animals/birds/pigeon": ("bird", None),
    "animals/birds/seagull": ("bird", None),
    "animals/birds/duck": ("bird", None),
    "animals/birds/rooster": ("bird", None),
    "animals/mammals/bears/bear": ("bear", None),
    "animals/mammals/bears/european-bear": ("bear", "brown"),
    "animals/mammals/bovines/cow": ("cow", None),
    "animals/mammals/bovines/cow_white": ("cow", "white"),
    "animals/mammals/bovines/sheep": ("sheep", None),
    "animals/mammals/bovines/sheep_lamb": ("sheep", None),
    "animals/mammals/dogs/dog": ("dog", None),
    "animals/mammals/elephant": ("elephant", None),
    "animals/mammals/equines/horse": ("horse", None),
    "animals/mammals/equines/zebra": ("zebra", None),
    "animals/mammals/giraffe": ("giraffe", None),
    "household/toilet": ("toilet", "white"),
    "household/dishes/mug": ("cup", None),
    "household/arttools/scissors_small_open": ("scissors", None),
    "household/arttools/scissors_small_closed": ("scissors", None),
    "sports/soccer": ("sports ball", None),
    "sports/basketball": ("sports ball", "orange"),
    "sports/tennis_racket": ("tennis racket", None),
    "town/roadsigns/stop": ("stop sign", "red"),
    "vehicles/auto/beetle": ("car", None),
    "vehicles/auto/sedan": ("car", None),
    "vehicles/auto/sportscar2": ("car", None),
    "vehicles/auto/truck": ("truck", None),
    "vehicles/garbagetruck": ("truck", None),
    "vehicles/emergency/firetruck": ("truck", "red"),
    "vehicles/flight/planes/747": ("airplane", None),
    "vehicles/masstransit/green_korean_bus": ("bus", "green"),
}


def write_index(stamps: Path, folder: Path) -> BenchmarkFile:
    """Copies the stamps into one folder with an index, as a user would give them."""
    rows = []
    for name, (label, colour) in STAMPS.items():
        image = f"{name.replace('/', '-')}.png"
        shutil.copyfile(stamps / f"{name}.png", folder / image)
        rows.append({"image": image, "class": label, **({"colour": colour} if colour else {})})
    text = "\n".join(map(json.dumps, rows))
    (folder / "index.jsonl").write_text(text, encoding="utf-8")
    return BenchmarkFile(path=str(folder / "index.jsonl"), sha256=hashlib.sha256(text.encode()).hexdigest())


def trial_at(side: int, file: BenchmarkFile, detector: Detector) -> list[str]:
    """The cards of one image size. There is no autoencoder here: the ceiling through one is not measured."""
    config = EvaluationConfig(suites=("geneval_coco",), resolution_px=side)
    context = SimpleNamespace(config=config, seed=0, rng=lambda name: np.random.default_rng([0, *name.encode()]), through_vae=no_images)
    cards = object_cards(cast(SuiteContext, context), ObjectJudge(detector), NAME, detector.digest, read_pictures(file))
    lines = [f"{side} px"]
    for kind, card in cards.items():
        floors = ", ".join(f"{name} {value:.3f}" for name, value in card.floors.items())
        verdict = f"refused: {card.refused}" if card.refused else "believed"
        lines.append(f"  {kind}: ceiling {card.ceiling:.3f} of {card.num_images} scenes; floors: {floors}; {verdict}")
    return lines


def no_images(_: Any) -> Sequence[Any]:
    """Nothing went through an autoencoder."""
    return ()


def main() -> None:
    """Prints and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stamps", type=Path, help="folder of the stamps")
    parser.add_argument("--sides", type=int, nargs="+", default=[128, 256, 512])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/detector_trial.txt"))
    options = parser.parse_args()
    detector = Detector()
    classes = len({label for label, _ in STAMPS.values()})
    lines = [f"{NAME}, {len(STAMPS)} photographed stamps of {classes} classes"]
    with tempfile.TemporaryDirectory() as folder:
        file = write_index(options.stamps, Path(folder))
        for side in options.sides:
            lines += trial_at(side, file, detector)
    print("\n".join(lines))
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
