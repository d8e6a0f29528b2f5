"""The examination as a whole: it never raises, never hangs, and keeps its order."""

from __future__ import annotations

import threading
from pathlib import Path

from imagewright.doctor import Finding, State, all_checks, examine


def broken() -> Finding:
    raise ImportError("libcuda.so of s3cr3t-token is missing")


def test_a_check_that_raises_becomes_a_line_without_secrets() -> None:
    (finding,) = examine({"accelerators": broken}, {"SOME_TOKEN": "s3cr3t-token"})
    assert finding == Finding("accelerators", State.failed, "ImportError: libcuda.so of [hidden] is missing", finding.fix)
    assert finding.fix


def test_a_check_that_hangs_becomes_a_line() -> None:
    release = threading.Event()

    def hanging() -> Finding:
        release.wait(30)
        return Finding("store", State.ok, "late")

    findings = examine({"store": hanging, "git": lambda: Finding("git", State.ok, "2")}, {}, deadline_seconds=0.2)
    release.set()
    assert [(finding.name, finding.state) for finding in findings] == [("store", State.failed), ("git", State.ok)]


def test_every_line_that_is_not_ok_says_what_to_do(tmp_path: Path) -> None:
    checks = all_checks(tmp_path, {"KUBECONFIG": str(tmp_path / "none"), "MLFLOW_TRACKING_URI": "nonsense"})
    findings = examine(checks, {})
    assert [finding.name for finding in findings] == list(checks)
    assert all(finding.fix for finding in findings if finding.state != State.ok)


def test_a_damaged_stack_folder_is_reported_not_raised(tmp_path: Path) -> None:
    (tmp_path / "stack" / "run").mkdir(parents=True)
    (tmp_path / "stack" / "run" / "s3.json").write_text("{")
    checks = all_checks(tmp_path, {})
    assert {finding.state for finding in examine({"store": checks["store"]}, {})} <= {State.skipped, State.failed}
