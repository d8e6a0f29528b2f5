"""Loads a recipe: YAML deviations, `extends`, dotted overrides -> the validated, frozen `Config`.

Everything wrong in a recipe is reported at once, each mistake with its dotted key, rule, value and fix.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from imagewright.config.base import Section
from imagewright.config.tree import Config
from imagewright.errors import ConfigError, Problem

MAX_RECIPE_BYTES = 1 << 20
EXTENDS = "extends"


class RecipeLoader(yaml.SafeLoader):
    """YAML 1.1 reads `1e-4` as text; numbers in recipes follow YAML 1.2. Duplicate keys are refused, not silently dropped."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} must be text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} appears twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


RecipeLoader.add_implicit_resolver(  # type: ignore[no-untyped-call]
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def packaged_recipes() -> list[str]:
    """Names of the recipes that ship with the package."""
    folder = resources.files("imagewright.recipes")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_recipe(recipe: str | Path, overrides: Sequence[str] = (), model: type[Section] = Config) -> Any:
    """Returns the validated configuration of `recipe` (a packaged name or a path) with `key.path=value` overrides applied.

    Raises ConfigError with every mistake found: unknown recipe, cycle, unknown key, wrong type, contradiction.
    """
    tree = read_deviations(recipe)
    problems: list[Problem] = []
    for override in overrides:
        try:
            apply_override(tree, override)
        except ConfigError as error:
            problems.extend(error.problems)
    try:
        config = validate(tree, model)
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems]) from error
    if problems:
        raise ConfigError(problems)
    return config


def validate(tree: Mapping[str, Any], model: type[Section] = Config) -> Any:
    """Validates a tree of plain values. JSON mode: lists may fill tuples, but text never becomes a number."""
    try:
        text = json.dumps(tree, allow_nan=True)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            Problem("recipe", "holds a value that is not plain data (text, number, boolean, list, mapping)", str(error))
        ) from error
    try:
        return model.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise ConfigError([explain(detail, model) for detail in error.errors(include_url=False)]) from error


def parse_config(text: str, name: str) -> Config:
    """The configuration a pipeline hands to its jobs: one JSON object, already resolved. `name` says in an error where it came from."""
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(Problem("recipe", f"is not valid JSON: {error}", name, "give what `imagewright config` resolves")) from error
    if not isinstance(tree, dict):
        raise ConfigError(Problem("recipe", "must be an object of keys and values", name, "give what `imagewright config` resolves"))
    config: Config = validate(tree)
    return config


def explain(detail: Mapping[str, Any], model: type[BaseModel]) -> Problem:
    """Turns one pydantic error into a Problem with the nearest valid key."""
    location = list(detail["loc"])
    key = ".".join(str(part) for part in location) or "recipe"
    if detail["type"] == "extra_forbidden":
        valid = keys_at(location[:-1], model)
        nearest = difflib.get_close_matches(str(location[-1]), valid, n=1, cutoff=0.5)
        fix = f"did you mean {'.'.join([*map(str, location[:-1]), nearest[0]])!r}?" if nearest else f"valid keys here: {', '.join(valid)}"
        return Problem(key, "unknown key", detail["input"], fix)
    if detail["type"] == "missing":
        return Problem(key, "is required", None, f"set {key} in the recipe")
    rule = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    fix = "two settings contradict; change one of them" if detail["type"] == "value_error" and isinstance(detail["input"], dict) else ""
    received = None if isinstance(detail["input"], dict) else detail["input"]
    return Problem(key, rule, received, fix or f"give {key} a value that keeps this rule")


def keys_at(location: Sequence[str | int], model: type[BaseModel]) -> list[str]:
    """Valid keys of the section found at `location` below `model`."""
    current: list[type[BaseModel]] = [model]
    for part in location:
        found: list[type[BaseModel]] = []
        for section in current:
            if isinstance(part, str) and part in section.model_fields:
                found.extend(sections_in(section.model_fields[part].annotation))
        current = found or current  # an index, a mapping key or a union tag stays at the same section
    return sorted({name for section in current for name in section.model_fields})


def sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every section type inside an annotation such as `tuple[Stage, ...]` or `Flat | Poster`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from sections_in(argument)


def read_deviations(recipe: str | Path) -> dict[str, Any]:
    """Reads a recipe and everything it extends, nearest last, into one tree of plain values."""
    chain: list[str] = []
    trees: list[dict[str, Any]] = []
    current: str | Path | None = recipe
    base = Path.cwd()
    while current is not None:
        name, text, base = open_recipe(current, base)
        if name in chain:
            raise ConfigError(
                Problem(
                    "extends",
                    "recipes must not extend one another in a circle",
                    " -> ".join(Path(link).name for link in [*chain, name]),
                    "remove one `extends`",
                )
            )
        chain.append(name)
        tree = parse_recipe(text, name)
        parent = tree.pop(EXTENDS, None)
        if parent is not None and not isinstance(parent, str):
            raise ConfigError(Problem(EXTENDS, "must be the name or path of one recipe", parent, "write `extends: demo`"))
        trees.append(tree)
        current = parent
    merged: dict[str, Any] = {}
    for tree in reversed(trees):
        merged = merge(merged, tree)
    return merged


def open_recipe(recipe: str | Path, base: Path) -> tuple[str, str, Path]:
    """Returns (identity, text, folder) of a packaged recipe or of a file; a path is relative to the recipe that names it."""
    if isinstance(recipe, str) and not recipe.endswith((".yaml", ".yml")):
        packaged = resources.files("imagewright.recipes") / f"{recipe}.yaml"
        if "/" not in recipe and packaged.is_file():
            return recipe, packaged.read_text(encoding="utf-8"), base
        known = packaged_recipes()
        nearest = difflib.get_close_matches(recipe, known, n=1)
        raise ConfigError(
            Problem(
                "recipe",
                "no recipe has this name",
                recipe,
                f"did you mean {nearest[0]!r}?" if nearest else f"recipes: {', '.join(known)}, or a path ending in .yaml",
            )
        )
    path = (base / recipe).resolve()
    try:
        if path.stat().st_size > MAX_RECIPE_BYTES:
            raise ConfigError(Problem("recipe", f"must be smaller than {MAX_RECIPE_BYTES} bytes", str(path), "is this really a recipe?"))
        return str(path), path.read_text(encoding="utf-8"), path.parent
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            Problem("recipe", f"cannot be read: {error}", str(path), "give a packaged name or the path of a YAML file")
        ) from error


def parse_recipe(text: str, name: str) -> dict[str, Any]:
    """Parses YAML text; an empty recipe is an empty set of deviations."""
    try:
        tree = yaml.load(text, Loader=RecipeLoader)  # noqa: S506 - a SafeLoader subclass
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(Problem("recipe", f"is not valid YAML: {error}", name, "mend the line named above")) from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(Problem("recipe", "must be a mapping of keys to values", name, "start with `name: ...`"))
    return tree


def merge(base: Mapping[str, Any], deviations: Mapping[str, Any]) -> dict[str, Any]:
    """Deep merge: mappings merge, everything else (lists included) is replaced. Inputs are left as they are."""
    merged = dict(base)
    for key, value in deviations.items():
        under = merged.get(key)
        merged[key] = merge(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return merged


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Applies one `dotted.key=value`; the value is YAML, list items are named by index (`pretrain.stages.0.steps=10`)."""
    key, separator, text = override.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise ConfigError(Problem("--set", "must look like dotted.key=value", override, "for example --set pretrain.steps=10"))
    try:
        value = yaml.load(text, Loader=RecipeLoader)  # noqa: S506 - a SafeLoader subclass
    except yaml.YAMLError as error:
        raise ConfigError(Problem(key, "value is not valid YAML", text, "quote text that holds : or {")) from error
    node: Any = tree
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        if isinstance(node, list):
            if not part.isdigit() or int(part) >= len(node):
                raise ConfigError(
                    Problem(
                        ".".join(parts[: depth + 1]), f"must be an index below {len(node)}", part, "lists in the recipe are counted from 0"
                    )
                )
            index = int(part)
            if last:
                node[index] = value
            node = node[index]
        elif isinstance(node, dict):
            if last:
                node[part] = value
            else:
                node = node.setdefault(part, {})
        else:
            raise ConfigError(
                Problem(".".join(parts[:depth]), "is a value, it has no keys below it", node, f"set {'.'.join(parts[:depth])} itself")
            )
