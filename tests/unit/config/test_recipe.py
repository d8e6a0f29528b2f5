"""What a person sees when a recipe is right, and when it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field, model_validator

from imagewright.config import Config, Section, load_recipe, packaged_recipes
from imagewright.config.recipe import parse_config
from imagewright.errors import ConfigError


class Stage(Section):
    steps: int = Field(default=10, ge=1)
    learning_rate: float = 1e-4
    sizes: tuple[int, ...] = (256,)


class Tree(Section):
    name: str = "tree"
    stages: tuple[Stage, ...] = (Stage(),)
    low: int = 0
    high: int = 10

    @model_validator(mode="after")
    def check_order(self) -> Tree:
        if self.low > self.high:
            raise ValueError("low must not exceed high")
        return self


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def load(path: Path, *overrides: str) -> Tree:
    tree = load_recipe(path, overrides, model=Tree)
    assert isinstance(tree, Tree)
    return tree


@pytest.mark.parametrize("name", packaged_recipes())
def test_every_packaged_recipe_loads(name: str) -> None:
    config = load_recipe(name)
    assert isinstance(config, Config)
    assert config.name == name


def test_a_recipe_holds_deviations_only(tmp_path: Path) -> None:
    tree = load(write(tmp_path, "r.yaml", "stages: [{steps: 3}]"))
    assert tree.stages[0].steps == 3
    assert tree.stages[0].learning_rate == 1e-4


def test_recipes_extend_one_another_by_relative_path(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", "low: 3\nhigh: 7")
    tree = load(write(tmp_path, "child.yaml", "extends: base.yaml\nhigh: 9"))
    assert (tree.low, tree.high) == (3, 9)


def test_a_cycle_of_recipes_is_named(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "extends: b.yaml")
    write(tmp_path, "b.yaml", "extends: a.yaml")
    with pytest.raises(ConfigError, match="circle") as caught:
        load(tmp_path / "a.yaml")
    assert "a.yaml" in str(caught.value)
    assert "b.yaml" in str(caught.value)


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, "r.yaml", "hihg: 3\nstages: [{stepz: 1}, {steps: 0}, {steps: ten}]\nlow: 2.5")
    with pytest.raises(ConfigError) as caught:
        load(path, "nothing", "stages.9.steps=1")
    keys = {problem.key for problem in caught.value.problems}
    assert keys == {"hihg", "stages.0.stepz", "stages.1.steps", "stages.2.steps", "low", "--set", "stages.9"}


def test_an_unknown_key_names_the_nearest_valid_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, "r.yaml", "stages: [{learning_rat: 1}]"))
    assert caught.value.problems[0].fix == "did you mean 'stages.0.learning_rate'?"


def test_text_is_not_taken_for_a_number(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stages\.0\.steps"):
        load(write(tmp_path, "r.yaml", "stages: [{steps: '3'}]"))


def test_true_is_not_taken_for_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="low"):
        load(write(tmp_path, "r.yaml", "low: true"))


def test_scientific_notation_without_a_dot_is_a_number(tmp_path: Path) -> None:
    assert load(write(tmp_path, "r.yaml", "stages: [{learning_rate: 3e-5}]")).stages[0].learning_rate == 3e-5


def test_a_contradiction_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="low must not exceed high"):
        load(write(tmp_path, "r.yaml", "low: 11"))
    assert load(write(tmp_path, "r.yaml", "low: 10")).low == 10


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("a: 1\na: 2", "appears twice"),
        ("[1, 2]", "mapping"),
        ("a: [", "not valid YAML"),
        ("1: 2", "must be text"),
        ("low: .nan", "low"),
        ("name: !!python/name:os.system", "not valid YAML"),
    ],
)
def test_what_is_not_a_recipe_is_refused(tmp_path: Path, text: str, rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        load(write(tmp_path, "r.yaml", text))


def test_an_unknown_recipe_name_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'debug'"):
        load_recipe("debgu")


def test_overrides_reach_into_lists_and_read_yaml(tmp_path: Path) -> None:
    tree = load(write(tmp_path, "r.yaml", "stages: [{steps: 1}]"), "stages.0.sizes=[256, 512]", "name=one")
    assert tree.stages[0].sizes == (256, 512)
    assert tree.name == "one"


def test_an_override_below_a_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no keys below"):
        load(write(tmp_path, "r.yaml", "low: 1"), "low.er=3")


def test_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "none.yaml")


def test_a_resolved_configuration_survives_its_way_to_a_job() -> None:
    config = load_recipe("debug", ["seed=7"])
    assert parse_config(config.model_dump_json(), "the config parameter") == config


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"sead": 1}', "[" * 100_000])
def test_what_is_not_a_resolved_configuration_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_config(text, "the config parameter")
