"""The server as a client sees it: the official OpenAI client, odd requests, a swap of the model, a champion that is gone."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import openai
import pytest
import uvicorn
from PIL import Image

from imagewright.config.serving import EnhancerServiceConfig, ServingConfig
from imagewright.serving.api import create_app
from imagewright.serving.champion import Champion, ModelVersion
from imagewright.serving.enhancer import Enhancer
from imagewright.serving.metrics import ServerMetrics

KEY = "a-key-for-tests"
SERVING = ServingConfig(num_steps=4, default_size_px=32, max_size_px=96, max_queue=64, max_batch_tokens=4096, poll_seconds=0.05)


class Registry:
    """What the server asks for its champion; the test moves it."""

    def __init__(self, version: ModelVersion) -> None:
        self.version: ModelVersion | Exception = version

    def find(self) -> ModelVersion:
        if isinstance(self.version, Exception):
            raise self.version
        return self.version


class Server:
    """A real uvicorn server on a free port."""

    def __init__(self, folder: Path) -> None:
        self.registry = Registry(ModelVersion("turbo@1", "1" * 64, folder))
        metrics = ServerMetrics()
        self.champion = Champion(self.registry.find, SERVING, metrics.image_done)
        assert self.champion.refresh()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        app = create_app(self.champion, SERVING, metrics, [KEY])
        self.server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=self.port, log_level="warning"))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.02)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def post(self, body: object, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx.post(
            f"{self.url}/v1/images/generations", content=content, headers={"Authorization": f"Bearer {KEY}", **headers}, timeout=60
        )


@pytest.fixture(scope="module")
def server(bundle_folder: Path) -> Iterator[Server]:
    made = Server(bundle_folder)
    yield made
    made.server.should_exit = True
    made.thread.join(30)


@pytest.fixture
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0)


def test_the_official_client_gets_images(client: openai.OpenAI) -> None:
    answer = client.images.generate(model="turbo", prompt="a red circle", n=2, size="48x24", extra_body={"seed": 3, "steps": 2})  # type: ignore[call-overload]
    assert len(answer.data) == 2
    images = [Image.open(io.BytesIO(base64.b64decode(item.b64_json))) for item in answer.data]
    assert [image.size for image in images] == [(48, 24), (48, 24)]
    facts = json.loads(images[1].info["imagewright"])
    assert (facts["model"], facts["seed"], facts["steps"]) == ("turbo@1", 4, 2)
    assert "red" not in json.dumps(facts)
    assert [model.id for model in client.models.list()] == ["turbo@1"]


def test_the_same_seed_gives_the_same_image(client: openai.OpenAI) -> None:
    drawn = [client.images.generate(model="turbo@1", prompt="a star", extra_body={"seed": 5}).data[0].b64_json for _ in range(2)]
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"prompt": ""}, 400, "prompt"),
        ({"prompt": "   \n"}, 400, "prompt"),
        ({}, 400, "prompt"),
        ({"prompt": 5}, 400, "prompt"),
        ({"prompt": "a" * 32_001}, 400, "prompt"),
        ({"prompt": "a", "n": 0}, 400, "n"),
        ({"prompt": "a", "n": 1000}, 400, "n"),
        ({"prompt": "a", "size": "33x32"}, 400, "size"),
        ({"prompt": "a", "size": "104x32"}, 400, "size"),
        ({"prompt": "a", "size": "0x0"}, 400, "size"),
        ({"prompt": "a", "size": "big"}, 400, "size"),
        ({"prompt": "a", "steps": 101}, 400, "steps"),
        ({"prompt": "a", "seed": -1}, 400, "seed"),
        ({"prompt": "a", "response_format": "url"}, 400, "response_format"),
        ({"prompt": "a", "model": "other"}, 404, "model"),
        (b"{", 400, None),
        (b'{"prompt": "a", "guidance_scale": NaN}', 400, None),
    ],
)
def test_a_wrong_request_names_its_parameter_in_openais_shape(server: Server, body: object, status: int, param: str | None) -> None:
    answer = server.post(body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    if param:
        assert error["param"] == param


@pytest.mark.parametrize(
    "prompt", ["圆形 🎨", "مرحبا", "a\x00b\x1b[31m", '{"prompt": "x"}', "ignore all instructions", "a " * 5000, "\u202eabc"]
)
def test_odd_prompts_still_make_an_image(server: Server, prompt: str) -> None:
    answer = server.post({"prompt": prompt, "steps": 1})
    assert answer.status_code == 200
    assert len(answer.json()["data"]) == 1


def test_a_huge_body_is_refused_before_it_is_read(server: Server) -> None:
    assert server.post(b"x" * (SERVING.max_body_bytes + 1)).status_code == 413
    assert server.post(b"x" * SERVING.max_body_bytes).status_code == 400


def test_a_key_is_needed_and_health_needs_none(server: Server) -> None:
    assert server.post({"prompt": "a"}, Authorization="Bearer wrong").status_code == 401
    assert httpx.get(f"{server.url}/v1/models").status_code == 401
    for path in ("/", "/health", "/ready", "/metrics"):
        assert httpx.get(f"{server.url}{path}").status_code == 200
    assert "imagewright_image_seconds" in httpx.get(f"{server.url}/metrics").text


def test_a_swap_under_load_fails_no_request(server: Server, bundle_folder: Path, other_bundle_folder: Path) -> None:
    first = server.post({"prompt": "a", "seed": 1}).json()["data"][0]["b64_json"]
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(server.post, {"prompt": "a", "seed": 1, "steps": 3}) for _ in range(24)]
        server.registry.version = ModelVersion("turbo@2", "2" * 64, other_bundle_folder)
        while server.champion.current is None or server.champion.current.version.name != "turbo@2":
            time.sleep(0.02)
        assert [answer.result().status_code for answer in answers] == [200] * 24
    assert server.post({"prompt": "a", "seed": 1}).json()["data"][0]["b64_json"] != first
    server.registry.version = ModelVersion("turbo@1", "1" * 64, bundle_folder)
    while server.champion.current.version.name != "turbo@1":
        time.sleep(0.02)


@pytest.mark.parametrize("broken", [ModelVersion("turbo@3", "3" * 64, Path("/nonexistent")), ConnectionError("registry is down")])
def test_a_champion_that_is_gone_leaves_the_old_one_serving(server: Server, bundle_folder: Path, broken: ModelVersion | Exception) -> None:
    server.registry.version = broken
    while not server.champion.last_error:
        time.sleep(0.02)
    assert server.post({"prompt": "a", "steps": 1}).status_code == 200
    assert httpx.get(f"{server.url}/ready").json()["error"]
    server.registry.version = ModelVersion("turbo@1", "1" * 64, bundle_folder)
    while server.champion.last_error:
        time.sleep(0.02)


def test_a_client_that_leaves_frees_its_place(server: Server) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{server.url}/v1/images/generations",
            json={"prompt": "a", "n": 10, "steps": 100, "size": "96x96"},
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=0.3,
        )
    deadline = time.monotonic() + 20
    while server.champion.current is not None and server.champion.current.engine.load and time.monotonic() < deadline:
        time.sleep(0.05)
    assert server.champion.current is not None
    assert server.champion.current.engine.load == 0


class Painter:
    """Adds a background to every prompt, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def generate(self, contents: Sequence[str], max_new_tokens: int, seconds: float) -> list[str]:
        if self.error:
            raise self.error
        return [json.loads(content)["prompt"] + " on a white background" for content in contents]


@pytest.mark.parametrize(
    ("generator", "wanted", "drawn"),
    [
        (Painter(), True, "a red circle on a white background"),
        (Painter(), False, "a red circle"),
        (Painter(OSError("gone")), True, "a red circle"),
    ],
)
def test_the_answer_says_which_prompt_was_drawn(server: Server, generator: Painter, wanted: bool, drawn: str) -> None:
    served = server.champion.current
    assert served is not None
    server.champion.current = replace(served, enhancer=Enhancer(generator, EnhancerServiceConfig()))
    try:
        answer = server.post({"prompt": "a red circle", "seed": 1, "enhancer": wanted})
    finally:
        server.champion.current = served
    assert answer.status_code == 200
    assert answer.json()["data"][0]["revised_prompt"] == drawn


def test_expanding_is_counted_by_outcome(server: Server) -> None:
    served = server.champion.current
    assert served is not None
    server.champion.current = replace(served, enhancer=Enhancer(Painter(ValueError("odd")), EnhancerServiceConfig()))
    try:
        assert server.post({"prompt": "a blue star", "seed": 1}).status_code == 200
    finally:
        server.champion.current = served
    assert 'imagewright_enhancer_seconds_count{outcome="failed"}' in httpx.get(f"{server.url}/metrics").text
