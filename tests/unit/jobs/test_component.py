"""What a component hands to its job: the configuration of the pipeline, changed where a fan-out tells its tasks apart."""

from __future__ import annotations

import json

import pytest

from imagewright.config import Config, load_recipe
from imagewright.config.recipe import parse_config
from imagewright.errors import InputError
from imagewright.jobs.component import changed


def test_each_slice_gets_its_own_index_and_everything_else_as_it_was() -> None:
    config = load_recipe("debug").model_dump_json()
    resolved: Config = parse_config(changed(config, {"curation": {"slice_index": 2, "num_slices": 3}}), "test")
    assert (resolved.curation.slice_index, resolved.curation.num_slices) == (2, 3)
    assert resolved.model_copy(update={"curation": load_recipe("debug").curation}) == load_recipe("debug")


def test_without_changes_the_configuration_is_handed_on_untouched() -> None:
    assert changed("as it was", {}) == "as it was"


def test_a_slice_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match="slice_index must be below num_slices"):
        parse_config(changed(json.dumps({"name": "x"}), {"curation": {"slice_index": 3, "num_slices": 3}}), "test")
