"""Configuration: frozen sections, recipes of deviations, errors that name the nearest valid key."""

from imagewright.config.base import Section
from imagewright.config.recipe import load_recipe, packaged_recipes
from imagewright.config.tree import Config

__all__ = ["Config", "Section", "load_recipe", "packaged_recipes"]
