"""Every `imagewright` command that a chart runs exists, with the options it is given."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from helm.charts import ALL_CASES, manifests
from imagewright.cli.main import app
from imagewright.launch.policy import pod_specs


def commands(chart: str, case: str) -> list[list[str]]:
    found = []
    for manifest in manifests(chart, case):
        for _, pod, _ in pod_specs(manifest):
            for container in [*pod.get("initContainers", []), *pod["containers"]]:
                words = [*container.get("command", []), *container.get("args", [])]
                if words[:1] == ["imagewright"]:
                    found.append(words[1:])
    return found


@pytest.mark.parametrize(("chart", "case"), ALL_CASES, ids=[f"{chart}-{case}" for chart, case in ALL_CASES])
def test_commands_of_the_charts_are_commands_of_the_program(chart: str, case: str) -> None:
    for words in commands(chart, case):
        command: Any = typer.main.get_command(app)
        rest = words
        while hasattr(command, "commands"):
            assert rest[0] in command.commands, f"imagewright {' '.join(words)}"
            command, rest = command.commands[rest[0]], rest[1:]
        # Parses arguments and options as the program would, without running it.
        command.make_context(command.name, list(rest))
