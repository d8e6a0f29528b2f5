"""Votes -> data: ratings, preference pairs and form answers as Parquet, with how far annotators agree with each other."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from imagewright.annotation.project import DIMENSIONS, Assignment, Project, position, winners_of
from imagewright.annotation.simulated import Judged
from imagewright.annotation.store import AnnotationStore, Vote
from imagewright.annotation.tournament import Tournament, tier_score, tiers

HUMAN = "human"


def export_project(store: AnnotationStore, name: str, folder: Path) -> dict[str, Any]:
    """Writes `ratings.parquet`, `pairs.parquet`, `forms.parquet` (those the kind has) and `agreement.json`; returns the latter.

    Ratings come from finished tournaments of annotators who passed calibration; pairs and forms from everybody who passed.
    """
    project = store.project(name)
    folder.mkdir(parents=True, exist_ok=True)
    trusted = [one for one in store.assignments(name) if is_trusted(project, store, one)]
    votes = {one.annotator: store.votes(one.id) for one in trusted}
    asked = {key for pair in project.gold for key in pair}
    work = {who: [vote for vote in cast if not set(vote.images) & asked] for who, cast in votes.items()}
    summary: dict[str, Any] = {"project": name, "kind": project.kind, "origin": HUMAN, "annotators": len(store.assignments(name))}
    summary |= {"annotators_trusted": len(trusted), "votes": sum(map(len, work.values()))}
    if project.kind == "form":
        write(folder / "forms.parquet", form_rows(project, work))
        summary["pass_rates"] = pass_rates(work)
    else:
        write(folder / "pairs.parquet", pair_rows(project, work))
        summary["pair_agreement"] = pair_agreement(work)
    if project.kind == "tournament":
        ratings = [row for one in trusted for row in rating_rows(project, store, one)]
        write(folder / "ratings.parquet", ratings)
        summary["rated_images"] = len(ratings)
    (folder / "agreement.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


def is_trusted(project: Project, store: AnnotationStore, assignment: Assignment) -> bool:
    """Whether the calibration test (if there is one) was passed."""
    stand = store.view(assignment.id).position
    return not project.gold or (stand.calibration is not None and stand.calibration.passed)


def pair_rows(project: Project, work: Mapping[str, list[Vote]]) -> list[dict[str, Any]]:
    """One row per comparison."""
    rows = []
    for who, votes in work.items():
        for vote in votes:
            loser = vote.images[1] if vote.answer == vote.images[0] else vote.images[0]
            rows.append(
                {
                    "winner": vote.answer,
                    "loser": loser,
                    "prompt": project.item(vote.answer).prompt,
                    "annotator": who,
                    "shown_left": vote.images[0],
                    "origin": HUMAN,
                }
            )
    return rows


def form_rows(project: Project, work: Mapping[str, list[Vote]]) -> list[dict[str, Any]]:
    """One row per image and annotator, one column per dimension."""
    return [
        {
            "item": vote.images[0],
            "prompt": project.item(vote.images[0]).prompt,
            "annotator": who,
            "origin": HUMAN,
            **json.loads(vote.answer),
        }
        for who, votes in work.items()
        for vote in votes
    ]


def rating_rows(project: Project, store: AnnotationStore, assignment: Assignment) -> list[dict[str, Any]]:
    """Tiers of one finished tournament; nothing for one that is still open."""
    answers = {vote.question: vote.answer for vote in store.votes(assignment.id)}
    withdrawn = store.withdrawn(assignment.id)
    if position(project, assignment, answers, withdrawn, withdrawn).question is not None:
        return []
    results, _ = Tournament(assignment.items, assignment.seed).replay(winners_of(assignment, answers, withdrawn), withdrawn)
    judged = Judged(tiers([item for item in assignment.items if item not in withdrawn], results), results)
    return [
        {
            "item": item,
            "category": project.item(item).category,
            "tier": tier,
            "score": tier_score(tier),
            "annotator": assignment.annotator,
            "origin": HUMAN,
        }
        for item, tier in sorted(judged.tiers.items())
    ]


def pair_agreement(work: Mapping[str, list[Vote]]) -> dict[str, Any]:
    """Share of annotator pairs that chose alike, over the image pairs that several annotators judged; null where none overlaps."""
    choices: dict[frozenset[str], list[str]] = defaultdict(list)
    for votes in work.values():
        for vote in votes:
            choices[frozenset(vote.images)].append(vote.answer)
    alike = total = 0
    for answers in choices.values():
        count = len(answers)
        total += count * (count - 1) // 2
        alike += sum(answers.count(one) * (answers.count(one) - 1) // 2 for one in set(answers))
    return {"shared_comparisons": total, "agreement": alike / total if total else None}


def pass_rates(work: Mapping[str, list[Vote]]) -> dict[str, float]:
    """Pass rate per dimension, and `total_hp`: the sum of all but knowledge, as in the ERNIE-Image report's table 3."""
    forms = [json.loads(vote.answer) for votes in work.values() for vote in votes]
    if not forms:
        return {}
    rates = {name: sum(form[name] for form in forms) / len(forms) for name in DIMENSIONS}
    return rates | {"total_hp": sum(rate for name, rate in rates.items() if name != "knowledge")}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Rows as Parquet; no rows give an empty table."""
    pq.write_table(pa.Table.from_pylist(rows), path)
