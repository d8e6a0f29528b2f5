"""The job as a container runs it: a first build, people's votes as a record, a second build of the same samples."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from fixtures.tuned_model import write_tuned

from imagewright.config import load_recipe
from imagewright.jobs.frame import run_job
from imagewright.storage.records import Record


def test_votes_on_the_first_builds_samples_make_human_pairs_of_the_second(tmp_path: Path) -> None:
    config = load_recipe("debug", ["threads=1", "preferences.num_prompts=2"])
    store, given, environ = write_tuned(config, tmp_path)
    first = run_job("build-preferences", config, given, tmp_path / "first.json", environ).record
    store.get(first.digest, tmp_path / "pairs")
    project = json.loads((tmp_path / "pairs" / "votes" / "project.json").read_text())
    rows = [{"winner": worst, "loser": best, "annotator": "ann", "origin": "human"} for best, worst in project["pairs"]]
    (tmp_path / "votes").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "votes" / "pairs.parquet")
    votes = Record(job="import", kind="dataset", digest=store.put_folder(tmp_path / "votes", dvc_layout=True))
    second = run_job("build-preferences", config, {**given, "votes": votes}, tmp_path / "second.json", environ).record
    assert first.counts.get("pairs_human", 0) == 0
    assert second.counts["votes_used"] == second.counts["pairs_human"] == second.counts["pairs"] == 2
    assert first.action_key != second.action_key
