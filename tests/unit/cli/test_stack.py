"""The verbs of the local stack, as far as they go without starting a server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from imagewright.cli import stack
from imagewright.stack import StackError
from imagewright.stack.home import Home
from imagewright.stack.process import ProcessRecord

app = typer.Typer()
app.command("up")(stack.up)
app.command("down")(stack.down)
app.command("status")(stack.status)
app.command("logs")(stack.logs)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_status_of_a_stack_that_does_not_run_exits_with_code_3(tmp_path: Path) -> None:
    code, output = run("status", "--home", str(tmp_path))
    assert code == stack.EXIT_NOT_RUNNING
    assert output.count("stopped") == 2


def test_down_without_a_stack_says_so(tmp_path: Path) -> None:
    assert run("down", "--home", str(tmp_path / "none")) == (0, "nothing was running\n")


def test_export_without_a_stack_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="imagewright up"):
        run("status", "--export", "--home", str(tmp_path))


def test_exported_variables_survive_a_shell(tmp_path: Path) -> None:
    home = Home.of(tmp_path / "it's $here")
    home.prepare()
    for name in ("s3", "mlflow"):
        ProcessRecord(1, 0.0, (20_001,), "f").save(home.record(name))
    code, output = run("status", "--export", "--home", str(home.path.parent))
    assert code == 0
    script = output + 'printf %s "$IMAGEWRIGHT_REGISTRY_URL"'
    shown = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout == str(home.registry)


def test_logs_show_the_last_lines_of_the_named_server(tmp_path: Path) -> None:
    home = Home.of(tmp_path)
    home.prepare()
    home.log("s3").write_text("one\ntwo\n")
    assert run("logs", "s3", "-n", "1", "--home", str(tmp_path)) == (0, "two\n")
    assert run("logs", "mlflow", "--home", str(tmp_path)) == (0, "")


def test_importing_the_verbs_loads_no_server_packages() -> None:
    code = "import sys; import imagewright.cli.stack; print(sorted({'psutil', 'minio', 'mlflow'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
