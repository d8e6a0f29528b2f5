"""Which names and revisions are understood, and what is said about the others."""

from __future__ import annotations

import pytest

from imagewright.registry.names import RegistryError, check_name, parse_revision, unknown_name, unknown_version


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("raw", ("raw", None)),
        ("raw@latest", ("raw", None)),
        ("curated-256_b@v12", ("curated-256_b", 12)),
        ("a@v999999999", ("a", 999999999)),
    ],
)
def test_a_revision_is_a_name_and_a_version(text: str, parsed: tuple[str, int | None]) -> None:
    assert parse_revision(text) == parsed


@pytest.mark.parametrize("text", ["raw@", "raw@v0", "raw@v01", "raw@3", "raw@V3", "raw@v1@v2", "raw@v1000000000", "raw@v1\n", "raw@{1}"])
def test_a_malformed_revision_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(RegistryError, match=r"registry\.revision: .*fix: write raw@v1"):
        parse_revision(text)


def test_the_length_of_a_name_has_a_limit() -> None:
    assert check_name("a" * 64) == "a" * 64
    with pytest.raises(RegistryError, match="at most 64 characters"):
        check_name("a" * 65)


def test_nearest_names_and_versions_are_offered() -> None:
    assert "did you mean curated or curated-256?" in str(unknown_name("curate", ["curated-256", "raw", "curated"]))
    assert "nearest revisions: raw@v4, raw@v3, raw@v2" in str(unknown_version("raw", 9, [1, 2, 3, 4]))
