"""The data registry: datasets as DVC pointers in a git repository, with revisions, differences and takedown."""

from __future__ import annotations

from imagewright.registry.names import Revision, parse_revision
from imagewright.registry.registry import DataRegistry, open_registry, registry_from_environment
from imagewright.registry.repository import create_repository

__all__ = ["DataRegistry", "Revision", "create_repository", "open_registry", "parse_revision", "registry_from_environment"]
