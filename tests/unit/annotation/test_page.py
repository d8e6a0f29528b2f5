"""The annotation page in a real browser, and against a server that keeps dying."""

from __future__ import annotations

import http.client
import random
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures.annotation import KEY, free_port, make_project, start_server

from imagewright.annotation.links import sign_link
from imagewright.annotation.store import AnnotationStore

pytestmark = pytest.mark.e2e
CHROMIUM = "/usr/bin/chromium"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[AnnotationStore, str]]:
    database = f"sqlite:///{tmp_path / 'votes.db'}"
    store, port = AnnotationStore(database), free_port()
    process = start_server(database, port)
    yield store, f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(20)


@pytest.fixture
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def link(store: AnnotationStore, base: str, hours: float = 1) -> str:
    return f"{base}/a/{sign_link(KEY, store.assign('looks', 'ann').id, time.time() + 3600 * hours)}"


def test_tournament_can_be_done_with_the_keyboard_alone(server: tuple[AnnotationStore, str], browser: Any) -> None:
    store, base = server
    make_project(store, items=4)
    page = browser.new_page()
    page.goto(link(store, base))
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    for done in range(6):
        assert page.inner_text("#progress") == f"{done} of 6"
        with page.expect_navigation():
            page.keyboard.press("ArrowLeft" if done % 2 else "2")
    assert "All done" in page.inner_text("h1")
    with page.expect_navigation():
        page.click("#undo")
    assert page.inner_text("#progress") == "5 of 6"
    assert len(store.votes(store.assign("looks", "ann").id)) == 5


def test_double_click_and_two_tabs_count_once(server: tuple[AnnotationStore, str], browser: Any) -> None:
    store, base = server
    make_project(store, items=6)
    address = link(store, base)
    one, two = browser.new_page(), browser.new_page()
    one.goto(address)
    two.goto(address)
    one.dblclick("#left")
    one.wait_for_selector("text=1 of 15")
    with two.expect_navigation():
        two.click("#right")
    assert "already answered" in two.inner_text(".notice")
    assert len(store.votes(store.assign("looks", "ann").id)) == 1


def test_form_can_be_filled_with_the_keyboard(server: tuple[AnnotationStore, str], browser: Any) -> None:
    store, base = server
    make_project(store, items=2, kind="form")
    page = browser.new_page()
    page.goto(link(store, base))
    for key in "12345667":
        page.keyboard.press(key)
    with page.expect_navigation():
        page.keyboard.press("Enter")
    vote = store.votes(store.assign("looks", "ann").id)[0]
    assert '"creativity": false' in vote.answer and vote.answer.count("true") == 6


def test_phone_shows_both_images_without_scrolling_however_long_the_prompt_is(server: tuple[AnnotationStore, str], browser: Any) -> None:
    store, base = server
    make_project(store, kind="preference", prompt="A red circle to the left of a blue square, " * 20)
    for width, height, least in ((390, 844, 200), (844, 390, 120)):
        page = browser.new_page(viewport={"width": width, "height": height}, has_touch=True, is_mobile=True)
        page.goto(link(store, base))
        boxes = [page.locator(f"{selector} img").bounding_box() for selector in ("#left", "#right")]
        assert all(box["x"] >= 0 and box["x"] + box["width"] <= width and box["y"] + box["height"] <= height for box in boxes)
        assert all(box["width"] > least and box["height"] > least for box in boxes)
        assert page.evaluate("document.documentElement.scrollHeight <= innerHeight && document.documentElement.scrollWidth <= innerWidth")


def fetch(address: str, form: dict[str, str] | None = None, patience_seconds: float = 100.0) -> str:
    """A page, asked for again until a server answers: what a person's browser and patience do."""
    data = urllib.parse.urlencode(form).encode() if form else None
    deadline = time.monotonic() + patience_seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address, data=data, timeout=patience_seconds) as answer:  # noqa: S310 - our own loopback address
                return str(answer.read().decode())
        except urllib.error.HTTPError:
            raise  # an answer that refuses is no server away
        except (OSError, http.client.HTTPException):
            time.sleep(0.02)
    raise AssertionError("no server answered")


def test_no_vote_is_lost_or_doubled_while_the_server_is_killed(tmp_path: Path) -> None:
    votes, kills = 60, 3
    assert killed_votes(f"sqlite:///{tmp_path / 'votes.db'}", votes, kills, seed=4) == votes


def killed_votes(database: str, votes: int, kills: int, seed: int, patience_seconds: float = 100.0) -> int:
    """Gives votes while the server is killed at random moments of them; checks every stored answer against what was clicked."""
    store, port, rng = AnnotationStore(database), free_port(), random.Random(seed)
    make_project(store, items=votes + 1, kind="preference")
    address, clicked = link(store, f"http://127.0.0.1:{port}", hours=24), {}
    processes, finished = [start_server(database, port, patience_seconds)], threading.Event()
    moments = [(place, rng.uniform(0.0, 0.1)) for place in sorted(rng.sample(range(1, votes), kills))]

    def kill_again() -> None:
        for place, delay in moments:
            while len(clicked) < place and not finished.is_set():
                time.sleep(0.001)
            time.sleep(delay)  # anywhere between the click and some clicks after it
            processes[-1].kill()
            processes[-1].wait()
            processes.append(start_server(database, port, patience_seconds))

    killer = threading.Thread(target=kill_again)
    killer.start()
    try:
        page = fetch(address, patience_seconds=patience_seconds)
        while 'name="answer"' in page:
            form = dict(re.findall(r'name="(question|revision)" value="([^"]*)"', page))
            form["answer"] = rng.choice(re.findall(r'name="answer" value="([^"]*)"', page))
            clicked[form["question"]] = form["answer"]
            page = fetch(f"{address}/vote", form, patience_seconds)
    finally:
        finished.set()
        killer.join()
        processes[-1].kill()
        processes[-1].wait()
    stored = store.votes(store.assign("looks", "ann").id)
    assert len(processes) == kills + 1
    assert {vote.question: vote.answer for vote in stored} == clicked
    return len(stored)
