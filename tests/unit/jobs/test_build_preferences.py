"""The job as a container runs it: a first build, people's votes as a record, a second build of the same samples."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from fixtures.curated_scenes import write_curated

from imagewright.config import load_recipe
from imagewright.jobs.frame import run_job
from imagewright.models.diffusers_adapter import save_transformer
from imagewright.models.dit import ErnieImageDiT
from imagewright.models.vae import build_vae, save_vae
from imagewright.storage import open_store
from imagewright.storage.records import Record


def test_votes_on_the_first_builds_samples_make_human_pairs_of_the_second(tmp_path: Path) -> None:
    config = load_recipe("debug", ["threads=1", "preferences.num_prompts=2"])
    torch.manual_seed(0)
    model = ErnieImageDiT(config.model)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    save_transformer(model, tmp_path / "sft" / "transformer")
    save_vae(build_vae(config.vae), tmp_path / "vae" / "vae")
    write_curated(tmp_path / "curated", 20)
    store = open_store(f"file://{tmp_path}/store")
    kinds = {"sft": "model", "vae": "model", "curated": "dataset", "votes": "dataset"}

    def record(name: str) -> Record:
        dataset = kinds[name] == "dataset"
        digest = store.put_folder(tmp_path / name, dvc_layout=dataset)
        return Record.model_validate({"job": "import", "kind": kinds[name], "digest": digest})

    given = {name: record(name) for name in ("sft", "vae", "curated")}
    environ = {"IMAGEWRIGHT_STORE_URL": store.url, "IMAGEWRIGHT_WORK": str(tmp_path / "work")}
    first = run_job("build-preferences", config, given, tmp_path / "first.json", environ).record
    store.get(first.digest, tmp_path / "pairs")
    project = json.loads((tmp_path / "pairs" / "votes" / "project.json").read_text())
    rows = [{"winner": worst, "loser": best, "annotator": "ann", "origin": "human"} for best, worst in project["pairs"]]
    (tmp_path / "votes").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "votes" / "pairs.parquet")
    second = run_job("build-preferences", config, {**given, "votes": record("votes")}, tmp_path / "second.json", environ).record
    assert first.counts.get("pairs_human", 0) == 0
    assert second.counts["votes_used"] == second.counts["pairs_human"] == second.counts["pairs"] == 2
    assert first.action_key != second.action_key
