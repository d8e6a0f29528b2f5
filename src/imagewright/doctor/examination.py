"""Runs every check at once, each within a deadline; whatever a check does, it becomes a line of the report."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from imagewright.doctor import cluster, machine, services
from imagewright.doctor.finding import Finding, State, redact
from imagewright.stack.home import find_home

DEADLINE_SECONDS = 45.0

Check = Callable[[], Finding]


def all_checks(home: Path | None = None, environment: Mapping[str, str] = os.environ) -> dict[str, Check]:
    """Return the checks by name, in the order of the report."""

    @functools.cache
    def jobs() -> dict[str, str]:
        return services.job_environment(home, environment)

    return {
        "python": machine.check_python,
        "packages": machine.check_packages,
        "git": machine.check_git,
        "disk": lambda: machine.check_disk(find_home(home)),
        "memory": machine.check_memory,
        "accelerators": machine.check_accelerators,
        "compiler": machine.check_compiler,
        "store": lambda: services.check_store(jobs()),
        "registry": lambda: services.check_registry(jobs()),
        "tracking": lambda: services.check_tracking(jobs()),
        "kubernetes": lambda: cluster.check_kubernetes(environment),
        "kubeflow": lambda: cluster.check_kubeflow(environment),
    }


def examine(
    checks: Mapping[str, Check], environment: Mapping[str, str] = os.environ, deadline_seconds: float = DEADLINE_SECONDS
) -> list[Finding]:
    """Run the checks in threads and return their findings in order. Never raises; a check that hangs is reported as failed."""
    found: dict[str, Finding] = {}
    # Daemon threads: one that hangs in a system call must not keep the command from ending.
    threads = [threading.Thread(target=_run, args=(name, check, found), daemon=True) for name, check in checks.items()]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + deadline_seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    hung = f"did not end within {deadline_seconds:.0f} s"
    findings = [found.get(name, Finding(name, State.failed, hung, "check the network and the file systems")) for name in checks]
    return [Finding(one.name, one.state, redact(one.detail, environment), redact(one.fix, environment)) for one in findings]


def _run(name: str, check: Check, found: dict[str, Finding]) -> None:
    try:
        found[name] = check()
    except Exception as error:
        # A broken installation makes checks fail in ways nobody foresaw; that is what a report is for.
        found[name] = Finding(name, State.failed, f"{type(error).__name__}: {error}", "mend what it names, or reinstall: make setup")
