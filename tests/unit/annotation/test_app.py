"""The annotation page over HTTP: who may see what, and what repeated or invented requests do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from fixtures.annotation import KEY, make_project

from imagewright.annotation.app import create_app
from imagewright.annotation.links import sign_link
from imagewright.annotation.project import DIMENSIONS
from imagewright.annotation.store import AnnotationStore

NOW = 1000.0


@pytest.fixture
def store(tmp_path: Path) -> AnnotationStore:
    return AnnotationStore(f"sqlite:///{tmp_path / 'votes.db'}")


@pytest.fixture
def client(store: AnnotationStore) -> TestClient:
    return TestClient(create_app(store, KEY, lambda: NOW))


def link(store: AnnotationStore, annotator: str = "ann", items: tuple[str, ...] | None = None) -> str:
    return f"/a/{sign_link(KEY, store.assign('looks', annotator, items).id, NOW + 60)}"


def fields(page: str) -> dict[str, str]:
    """question, revision and the two choices of a page."""
    found = dict(re.findall(r'name="(question|revision)" value="([^"]*)"', page))
    found["left"], found["right"] = re.findall(r'name="answer" value="([^"]*)"', page)
    return found


def test_vote_moves_on_to_the_next_pair(store: AnnotationStore, client: TestClient) -> None:
    make_project(store)
    address = link(store)
    first = fields(client.get(address).text)
    form = {"question": first["question"], "revision": first["revision"], "answer": first["left"]}
    answer = client.post(f"{address}/vote", data=form, follow_redirects=False)
    assert answer.status_code == 303
    page = client.get(address).text
    assert "1 of 15" in page and fields(page)["question"] != first["question"]


def test_repeated_click_is_silent_and_a_contrary_one_from_another_tab_is_told(store: AnnotationStore, client: TestClient) -> None:
    make_project(store)
    address = link(store)
    first = fields(client.get(address).text)
    form = {"question": first["question"], "revision": first["revision"], "answer": first["left"]}
    client.post(f"{address}/vote", data=form)
    assert "already answered" not in client.post(f"{address}/vote", data=form).text
    assert "already answered" in client.post(f"{address}/vote", data=form | {"answer": first["right"]}).text
    assert client.get(address).text.count("1 of 15") > 0


@pytest.mark.parametrize("token", ["forged", "a.b", "%00"])
def test_forged_links_open_nothing(token: str, client: TestClient) -> None:
    for answer in (client.get(f"/a/{token}"), client.post(f"/a/{token}/vote"), client.get(f"/a/{token}/image/image-0")):
        assert answer.status_code == 403 and "not valid" in answer.text


def test_expired_link_says_so(store: AnnotationStore, client: TestClient) -> None:
    make_project(store)
    answer = client.get(f"/a/{sign_link(KEY, store.assign('looks', 'ann').id, NOW)}")
    assert answer.status_code == 403 and "expired" in answer.text


def test_annotator_sees_images_of_their_own_work_only(store: AnnotationStore, client: TestClient) -> None:
    make_project(store)
    address = link(store, items=("image-0", "image-1"))
    assert client.get(f"{address}/image/image-1").headers["content-type"] == "image/png"
    assert client.get(f"{address}/image/image-5").status_code == 404
    assert client.get(f"{address}/image/nothing").status_code == 404


def test_vote_for_a_pair_not_asked_is_refused(store: AnnotationStore, client: TestClient) -> None:
    make_project(store)
    address = link(store)
    first = fields(client.get(address).text)
    form = {"question": "0" * 24, "revision": first["revision"], "answer": first["left"]}
    assert client.post(f"{address}/vote", data=form).status_code == 400
    assert client.post(f"{address}/vote", data={"question": first["question"]}, follow_redirects=False).status_code == 303
    assert "0 of 15" in client.get(address).text


def test_oversized_form_is_refused(store: AnnotationStore, client: TestClient) -> None:
    make_project(store)
    assert client.post(f"{link(store)}/vote", content=b"a=" + b"x" * 20_000).status_code == 400


def test_prompts_are_shown_as_text_never_as_markup(store: AnnotationStore, client: TestClient) -> None:
    from imagewright.annotation.project import Project

    items = [{"key": key, "prompt": "<script>alert(1)</script>"} for key in ("a", "b")]
    project = Project.model_validate({"name": "looks", "kind": "preference", "items": items, "pairs": [("a", "b")]})
    store.create_project(project, {"a": b"\x89PNG", "b": b"\x89PNG"})
    answer = client.get(link(store))
    assert "&lt;script&gt;alert(1)" in answer.text and "<script>alert" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_form_needs_all_seven_dimensions(store: AnnotationStore, client: TestClient) -> None:
    make_project(store, items=2, kind="form")
    address = link(store)
    page = client.get(address).text
    assert "Does the picture pass" in page
    assert all(f'name="{name}"' in page for name in DIMENSIONS)
    found = dict(re.findall(r'name="(question|revision)" value="([^"]*)"', page))
    client.post(f"{address}/vote", data=found | dict.fromkeys(DIMENSIONS, "pass") | {"style": "fail"})
    vote = store.votes(store.assign("looks", "ann").id)[0]
    assert '"style": false' in vote.answer and '"world": true' in vote.answer


def test_undo_and_finished_page(store: AnnotationStore, client: TestClient) -> None:
    make_project(store, items=2)
    address = link(store)
    first = fields(client.get(address).text)
    page = client.post(f"{address}/vote", data={**first, "answer": first["right"]}).text
    assert "All done" in page
    assert "0 of 1" in client.post(f"{address}/undo", data={"revision": "1"}).text


def test_health_needs_no_link(client: TestClient) -> None:
    assert client.get("/health").text == "ok"
