"""What a reader of the documents can click, open or type exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOP_FOLDERS = ("benchmarks/", "components/", "docs/", "helm/", "infra/", "pipelines/", "src/", "tests/")


def documents() -> list[Path]:
    tracked = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "*.md"], capture_output=True, text=True, check=True
    )
    return [ROOT / line for line in tracked.stdout.split()]


DOCUMENTS = pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))


@DOCUMENTS
def test_links_to_files_resolve(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not link.startswith("mailto:") and not (document.parent / link).exists()]
    assert missing == []


@DOCUMENTS
def test_paths_in_backticks_exist(document: Path) -> None:
    quoted = re.findall(r"`([^`\s]+)`", document.read_text(encoding="utf-8"))
    paths = [text for text in quoted if text.startswith(TOP_FOLDERS) and not re.search(r"[*<>{}$]", text)]
    assert [path for path in paths if not (ROOT / path.split(":")[0]).exists()] == []


@DOCUMENTS
def test_make_targets_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"^make ([a-z-]+)", document.read_text(encoding="utf-8"), re.MULTILINE))
    named |= set(re.findall(r"`make ([a-z-]+)`", document.read_text(encoding="utf-8")))
    assert named <= targets


@pytest.fixture(scope="module")
def verbs() -> set[str]:
    from typer.main import get_command

    from imagewright.cli.main import app

    return set(get_command(app).commands)  # type: ignore[attr-defined]


@DOCUMENTS
def test_command_line_verbs_exist(document: Path, verbs: set[str]) -> None:
    named = set(
        re.findall(r"(?<!-n )(?<!namespace )\bimagewright ([a-z]+)\b(?!\.)", "\n".join(code_in(document.read_text(encoding="utf-8"))))
    )
    assert named <= verbs


def code_in(text: str) -> list[str]:
    """Fenced blocks and inline code."""
    return re.findall(r"```\n?(.*?)```", text, re.DOTALL) + re.findall(r"`([^`\n]+)`", text)


def test_recipes_named_in_the_readme_load() -> None:
    from imagewright.config import load_recipe

    named = re.findall(r"^\| `(\w+)` \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(named) >= 2
    for recipe in named:
        assert load_recipe(recipe).name == recipe


def test_the_command_says_what_it_can_do() -> None:
    shown = subprocess.run([sys.executable, "-m", "imagewright.cli.main", "--help"], capture_output=True, text=True, check=True, timeout=60)
    assert "run" in shown.stdout
