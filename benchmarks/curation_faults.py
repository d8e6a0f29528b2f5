"""Recall and precision of every filter and dedup tier on a pool with known faults (procedural scenes, packaged emoji, typeset text).

The faults are synthetic: they are made by sources/faults.py, and the side table that names them is read here only.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq

from imagewright.config.curation import CurationConfig, FilterConfig
from imagewright.config.data import CorruptConfig, DataConfig, EmojiConfig, PostersConfig, ScenesConfig
from imagewright.curation.curate import curate
from imagewright.data.manifest import read_manifest
from imagewright.sources.ingest import ingest

UNREADABLE = frozenset({"empty", "broken", "unknown_format", "too_many_pixels", "too_many_bytes", "animated", "damaged"})
ANSWERS = {
    "broken": UNREADABLE,
    "bomb": UNREADABLE,
    "tiny": frozenset({"too_small"}),
    "blur": frozenset({"blur"}),
    "compressed": frozenset({"compression"}),
    "watermark": frozenset({"watermark"}),
    "wrong_caption": frozenset({"caption_mismatch"}),
}
TARGETS = {"broken+bomb": "1.0/1.0", "blur": "0.9/0.95", "exact_duplicate": "1.0/1.0", "near_duplicate": "0.95/0.98"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--emoji", type=int, default=150)
    parser.add_argument("--posters", type=int, default=150)
    parser.add_argument("--size-px", type=int, default=64)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--ocr", action="store_true", help="find watermarks by reading text (0.25 s an image)")
    options = parser.parse_args()
    faults = CorruptConfig(exact_duplicate=0.03, near_duplicate=0.05, blur=0.04, tiny=0.02, broken=0.02, bomb=0.01, watermark=0.03,
                           compressed=0.03, wrong_caption=0.03)  # fmt: skip
    section = DataConfig(
        scenes=ScenesConfig(num_samples=options.scenes, size_px=options.size_px),
        emoji=EmojiConfig(num_concepts=options.emoji, size_px=options.size_px),
        posters=PostersConfig(num_samples=options.posters),
        corrupt=faults,
    )
    curation = CurationConfig(filters=FilterConfig(min_agreement=0.3), ocr=options.ocr)
    with tempfile.TemporaryDirectory() as folder:
        raw, output, work = (Path(folder) / name for name in ("raw", "curated", "work"))
        output.mkdir()
        work.mkdir()
        ingest(section, raw, options.seed)
        curate(raw, output, curation, work, options.seed)
        print(f"machine: {platform.processor() or platform.machine()}, Python {platform.python_version()}")
        print(f"pool: {options.scenes} scenes, {options.emoji} emoji concepts x 2 styles, {options.posters} posters; "
              f"{options.size_px} px; seed {options.seed}; OCR {'on' if options.ocr else 'off'}; synthetic faults")  # fmt: skip
        report(read_manifest(output), {row["sample_key"]: row for row in pq.read_table(raw / "faults.parquet").to_pylist()})


def report(table: object, faults: Mapping[str, Mapping[str, str]]) -> None:
    """Prints a line per fault: how many there are, how many were found by the right reason, what else that reason hit."""
    reasons = dict(zip(table["sample_key"].to_pylist(), table["drop_reason"].to_pylist(), strict=True))  # type: ignore[index]
    print(f"{'fault':18} {'made':>5} {'found':>6} {'recall':>7} {'flagged':>8} {'precision':>10}  target")
    merged = {"broken+bomb": ("broken", "bomb"), **{name: (name,) for name in ANSWERS if name not in ("broken", "bomb")}}
    for label, names in merged.items():
        answer = frozenset().union(*(ANSWERS[name] for name in names))
        made = {key for key, fault in faults.items() if fault["fault"] in names}
        flagged = {key for key, reason in reasons.items() if reason in answer}
        line(label, len(made), len(made & flagged), len(flagged), len(made & flagged))
    duplicates(reasons, faults, chance_repeats(table))
    clean = [key for key in reasons if key not in faults and not any(f["origin"] == key for f in faults.values())]
    print(f"clean samples kept: {sum(not reasons[key] for key in clean)} of {len(clean)}")


def chance_repeats(table: object) -> set[str]:
    """Typeset samples whose kind and whole text another one has too: true repeats that the faults did not make."""
    seen: dict[tuple[str, str], list[str]] = {}
    for row in table.select(["sample_key", "style", "visible_text"]).to_pylist():  # type: ignore[attr-defined]
        if row["visible_text"]:
            seen.setdefault((row["style"], row["visible_text"]), []).append(row["sample_key"])
    return {key for keys in seen.values() if len(keys) > 1 for key in keys}


def duplicates(reasons: Mapping[str, str], faults: Mapping[str, Mapping[str, str]], repeats: set[str]) -> None:
    """A duplicate is found when one of the pair (copy, origin) is dropped as a duplicate; a drop of neither is a miss.

    A drop is right when its sample is one of a known pair or a typeset text drawn twice by chance. Pairs whose origin or copy was dropped
    for another reason leave the count.
    """
    for name, answers in (("exact_duplicate", {"duplicate_exact"}), ("near_duplicate", {"duplicate_near"})):
        pairs = [(key, fault["origin"]) for key, fault in faults.items() if fault["fault"] == name]
        open_pairs = [pair for pair in pairs if all(reasons[key] in ("", "duplicate_exact", "duplicate_near") for key in pair)]
        found = [pair for pair in open_pairs if any(reasons[key] in answers for key in pair)]
        members = {key for key, fault in faults.items() if fault["fault"].endswith("duplicate")}
        members |= repeats
        members |= {fault["origin"] for fault in faults.values() if fault["fault"].endswith("duplicate")}
        flagged = [key for key, reason in reasons.items() if reason in answers]
        line(name, len(open_pairs), len(found), len(flagged), sum(key in members for key in flagged))


def line(label: str, made: int, found: int, flagged: int, right: int) -> None:
    recall, precision = found / max(1, made), right / max(1, flagged)
    print(f"{label:18} {made:5d} {found:6d} {recall:7.3f} {flagged:8d} {precision:10.3f}  {TARGETS.get(label, '-')}")


if __name__ == "__main__":
    main()
