"""Configuration: frozen sections, recipes of deviations, errors that name the nearest valid key.

The tree of all sections takes longer to import than the store that needs only their base, so it is imported when first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from imagewright.config.base import Section

if TYPE_CHECKING:
    from imagewright.config.recipe import load_recipe, packaged_recipes
    from imagewright.config.tree import Config

__all__ = ["Config", "Section", "load_recipe", "packaged_recipes"]

_HOMES = {"Config": "tree", "load_recipe": "recipe", "packaged_recipes": "recipe"}


def __getattr__(name: str) -> Any:
    """Imports the module that holds a public name."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
