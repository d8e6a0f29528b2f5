"""The images run as any non-root user, with nothing but /tmp to write to and no network."""

from __future__ import annotations

import pytest

from containers.engine import Engine

pytestmark = [pytest.mark.containers, pytest.mark.timeout(7200)]
CONFINED = ("--rm", "--user=12345:54321", "--read-only", "--tmpfs=/tmp", "--network=none", "--cap-drop=ALL")
TWO_JOBS = """
export IMAGEWRIGHT_STORE_URL=file:///tmp/store
imagewright job ingest-raw --recipe debug --output /tmp/raw.json
imagewright job curate-manifest --recipe debug --input raw=/tmp/raw.json --output /tmp/curated.json
id -u
if touch /opt/imagewright/written 2> /dev/null; then exit 9; fi
python3 -c 'import json; print("curated", json.load(open("/tmp/curated.json"))["counts"])'
"""
SERVE = """
imagewright serve --help > /dev/null
python3 -c 'import diffusers, fastapi, torch; from diffusers import ErnieImagePipeline; print("serve", torch.__version__)'
"""


def run(engine: Engine, target: str, script: str) -> str:
    return engine.call("run", *CONFINED, f"imagewright-{target}", "sh", "-euc", script).stdout


def test_the_worker_does_real_jobs(images: Engine) -> None:
    said = run(images, "worker", TWO_JOBS)
    assert "12345" in said
    assert "curated {'" in said


def test_the_server_has_what_it_draws_with(images: Engine) -> None:
    assert "serve 2." in run(images, "serve", SERVE)


def test_the_control_image_launches_and_tracks(images: Engine) -> None:
    script = "imagewright run end_to_end --recipe debug --dry-run; mlflow --version; weed version; python3 -c 'import psycopg'"
    said = run(images, "control", script)
    assert "pretrain-dit" in said
    assert "mlflow, version" in said


@pytest.mark.parametrize("target", ["control", "worker", "serve"])
def test_an_image_knows_its_commit_and_is_not_roots(images: Engine, target: str) -> None:
    found = images.call("image", "inspect", "--format", "{{.Config.User}} {{.Config.Env}}", f"imagewright-{target}").stdout
    assert found.startswith("10001:10001 ")
    assert "IMAGEWRIGHT_GIT_COMMIT=" in found
    assert "pip_conf" not in found
    for place in ("/etc/pip.conf", "/run/secrets/pip_conf"):
        assert run(images, target, f"cat {place} 2>/dev/null || true") == ""
