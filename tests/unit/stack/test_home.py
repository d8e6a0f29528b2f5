"""The state folder: where it is, what it holds, who may read it, and one command at a time."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path

import pytest

from imagewright.stack.errors import StackError
from imagewright.stack.home import HOME_VARIABLE, Home, find_home


def test_the_option_comes_before_the_variable_and_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "named"))
    assert find_home(tmp_path / "given") == tmp_path / "given"
    assert find_home() == tmp_path / "named"


def test_without_either_it_is_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HOME_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    assert find_home() == tmp_path / ".imagewright"
    assert Home.of().path == tmp_path / ".imagewright" / "stack"


def test_secrets_are_random_readable_by_the_owner_only_and_kept(tmp_path: Path) -> None:
    home, other = Home(tmp_path / "a"), Home(tmp_path / "b")
    home.prepare()
    first = home.credentials()
    home.prepare()
    other.prepare()
    assert home.credentials() == first
    assert other.credentials().secret_key != first.secret_key
    for file in (home.credentials_file, home.identities_file):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    assert first.secret_key not in repr(first)


def test_the_registry_is_a_bare_repository_and_git_ignores_the_home(tmp_path: Path) -> None:
    home = Home(tmp_path / "project" / ".imagewright" / "stack")
    home.prepare()
    answer = subprocess.run(["git", "-C", home.registry, "rev-parse", "--is-bare-repository"], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "true"
    config = subprocess.run(["git", "-C", home.registry, "config", "core.fsync"], capture_output=True, text=True, check=True)
    assert "reference" in config.stdout  # a published tag survives a power cut
    subprocess.run(["git", "init", "-q", tmp_path / "project"], check=True)
    seen = subprocess.run(["git", "-C", tmp_path / "project", "status", "--porcelain"], capture_output=True, text=True, check=True)
    assert seen.stdout == ""


@pytest.mark.parametrize("content", ["", "{", "[]", '{"access_key": "a"}'])
def test_damaged_credentials_are_named_with_a_fix(tmp_path: Path, content: str) -> None:
    home = Home(tmp_path)
    home.prepare()
    home.credentials_file.write_text(content)
    with pytest.raises(StackError, match=r"stack\.credentials: is not readable JSON.*delete it"):
        home.credentials()


def test_a_home_that_cannot_be_written_is_refused_with_a_fix(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StackError, match=r"stack\.home: cannot be written .* --home"):
        Home(tmp_path / "file" / "home").prepare()
    with pytest.raises(StackError, match="cannot be written"), Home(tmp_path / "file" / "home").locked():
        pass


def test_a_home_that_was_never_started_says_how_to_start(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="imagewright up"):
        Home(tmp_path / "none").credentials()


def test_a_second_command_waits_for_the_lock_and_gives_up_with_a_reason(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.locked(), pytest.raises(StackError, match=r"stack\.lock: is held by another command"), home.locked(timeout_seconds=0.2):
        pass
    with home.locked(timeout_seconds=0.0):
        pass


def test_the_server_reads_the_same_credentials(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    identity = json.loads(home.identities_file.read_text())["identities"][0]["credentials"][0]
    assert identity == {"accessKey": home.credentials().access_key, "secretKey": home.credentials().secret_key}
