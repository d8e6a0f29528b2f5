"""`imagewright store migrate` from a terminal: what it shows, what it refuses, and whose credentials go where."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from imagewright.cli.migrate import TenthsPrinter, target_environment
from imagewright.cli.store import app
from imagewright.errors import InputError
from imagewright.storage import Store, open_store


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    url = f"file://{tmp_path}/old"
    monkeypatch.setenv("IMAGEWRIGHT_STORE_URL", url)
    store = open_store(url)
    store.put_bytes(b"kept")
    return store


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["migrate", *arguments])


def test_a_dry_run_counts_and_writes_nothing(source: Store, tmp_path: Path) -> None:
    result = run("--to", f"file://{tmp_path}/new", "--dry-run")
    assert result.exit_code == 0 and "to copy" in result.output
    assert not (tmp_path / "new").exists()


def test_copy_then_switch_then_cancel(source: Store, tmp_path: Path) -> None:
    to = f"file://{tmp_path}/new"
    copied = run("--to", to)
    assert copied.exit_code == 0 and "100 % of 4 bytes" in copied.output and "still the one in use" in copied.output
    assert "is closed to writers" in run("--to", to, "--switch").output.replace("\n", " ")
    refused = run("--to", to)
    assert isinstance(refused.exception, InputError) and "was moved to" in str(refused.exception)
    assert "is open again" in run("--to", to, "--cancel").output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dry-run", "--switch"], "exclude one another"),
        (["--scratch", "/nowhere"], "--scratch: must be a folder"),
        (["--from", "file:///"], "must be file:// and an absolute folder"),
    ],
)
def test_what_makes_no_sense_is_refused(source: Store, tmp_path: Path, arguments: list[str], message: str) -> None:
    result = run("--to", f"file://{tmp_path}/new", *arguments)
    assert isinstance(result.exception, InputError) and message in str(result.exception)


def test_a_missing_source_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMAGEWRIGHT_STORE_URL", raising=False)
    result = run("--to", f"file://{tmp_path}/new")
    assert isinstance(result.exception, InputError) and "IMAGEWRIGHT_STORE_URL" in str(result.exception)


def test_the_target_takes_the_sources_settings_unless_it_is_given_its_own() -> None:
    old = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "c", "AWS_ENDPOINT_URL_S3": "http://old", "X": "y"}
    assert target_environment(old, "") == {name: value for name, value in old.items() if name != "X"}
    given = {"IMAGEWRIGHT_TARGET_AWS_ACCESS_KEY_ID": "k", "IMAGEWRIGHT_TARGET_AWS_SECRET_ACCESS_KEY": "s"}
    assert target_environment(old | given, "http://new") == {
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_ENDPOINT_URL": "http://new",
    }


def test_a_log_gets_a_line_a_tenth() -> None:
    console = Console(record=True, width=80)
    advance = TenthsPrinter(console, 200)
    for _ in range(200):
        advance(1)
    lines = console.export_text().splitlines()
    assert len(lines) == 10 and lines[-1] == "100 % of 200 bytes"
