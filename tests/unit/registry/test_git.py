"""How git is run: nobody's hooks, no prompts, bounded time, and errors a person can act on."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagewright.registry.git import GitResult, checked_git, failure, git_environment, redact, run_git


def test_variables_that_point_at_another_repository_do_not_reach_git(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE"):
        monkeypatch.setenv(name, "/elsewhere")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Ada")
    monkeypatch.setenv("GIT_TERMINAL_PROMPT", "1")
    environment = git_environment()
    assert {name for name in environment if name.startswith("GIT_")} >= {"GIT_AUTHOR_NAME", "GIT_SSH_COMMAND"}
    assert not {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE"} & environment.keys()
    assert environment["GIT_TERMINAL_PROMPT"] == "0"


def test_a_command_that_hangs_is_stopped(tmp_path: Path) -> None:
    # cat-file --batch waits for input that never comes to an end as long as the pipe is open.
    script = tmp_path / "hang"
    script.write_text("#!/bin/sh\nsleep 60\n")
    script.chmod(0o755)
    result = run_git(["-c", f"alias.hang=!{script}", "hang"], tmp_path, timeout_seconds=0.3)
    assert result.timed_out
    assert "cannot be reached: no answer within 0 s" in str(failure(result, "git://example"))


@pytest.mark.parametrize(
    ("said", "rule", "passing"),
    [
        ("fatal: unable to access 'https://x/': Could not resolve host: x", "cannot be reached", True),
        ("fatal: unable to access 'https://x/': The requested URL returned error: 503", "cannot be reached", True),
        (
            "fatal: '/x' does not appear to be a git repository\nfatal: Could not read from remote repository.",
            "must be a git repository",
            False,
        ),
        ("git@x: Permission denied (publickey).\nfatal: Could not read from remote repository.", "refuses access", False),
        ("fatal: could not read Username for 'https://x': terminal prompts disabled", "refuses access", False),
        ("fatal: something new", "git failed: fatal: something new", False),
    ],
)
def test_gits_words_become_a_rule_and_a_fix(said: str, rule: str, passing: bool) -> None:
    error = failure(GitResult(128, b"", said), "https://user:secret@x/registry.git")
    assert rule in str(error)
    assert "fix: " in str(error)
    assert "secret" not in str(error)
    assert error.passing == passing


def test_credentials_are_taken_out_of_urls() -> None:
    assert redact("fatal: https://ada:token@host/x and ssh://git@host") == "fatal: https://***@host/x and ssh://***@host"


def test_a_failed_command_raises(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"registry\.url: must be a git repository"):
        checked_git(["ls-remote", str(tmp_path / "missing")], tmp_path, str(tmp_path / "missing"))
