"""Fine-tuning says at once when a variant it should merge is not there, or leaves nothing to merge with."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.tuned_model import write_tuned

from imagewright.config import load_recipe
from imagewright.errors import InputError
from imagewright.jobs.frame import run_job


def test_a_variant_that_cannot_be_merged_is_refused_before_training(tmp_path: Path) -> None:
    tuned = write_tuned(load_recipe("debug"), tmp_path)
    base = tuned.given["sft"]
    given = {"base": base, "sft_data": tuned.given["curated"]}

    def run(payload: str) -> None:
        config = load_recipe("debug", ["threads=1", f"sft.merge=[{{payload: {payload}, weight: 0.5}}]", "sft.domains=[scenes_flat]"])
        run_job("finetune-sft", config, given, tmp_path / "out.json", tuned.environ)

    with pytest.raises(InputError, match="is not complete in the store"):
        run("a" * 64)
    with pytest.raises(InputError, match="must leave a share"):
        load_recipe("debug", ["sft.merge=[{payload: " + "a" * 64 + ", weight: 0.5}, {payload: " + "b" * 64 + ", weight: 0.5}]"])
