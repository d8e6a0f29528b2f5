"""Questions about images: how answers add up, and what an endpoint may say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from fixtures.chat_server import chat_server, said
from fixtures.tiny_vlm import write_tiny_vlm

from imagewright.config.evaluation import QuestionJudgeConfig
from imagewright.evaluation.judges.questions import (
    ModelAnswerer,
    Question,
    SceneAnswerer,
    answer_all,
    answerer_of,
    dependent_score,
    facts_of,
    yes_or_no,
)
from imagewright.evaluation.judges.verdicts import JudgeFailed, Prompt
from imagewright.evaluation.scene_judge import prompt_from_scene
from imagewright.sources.scenes import compose_scene, draw_scene

KINDS: tuple[tuple[Literal["transformers", "openai"], str], ...] = (("transformers", ""), ("openai", "http://x/v1"))
QUESTIONS = (Question("1", "Is there a cat?"), Question("2", "Is the cat red?", ("1",)), Question("3", "Is it night?"))


@pytest.mark.parametrize(
    ("answers", "score"),
    [((True, True, True), 1.0), ((False, True, True), 1 / 3), ((True, False, False), 1 / 3), ((False, False, False), 0.0)],
)
def test_a_question_counts_only_when_its_parents_are_yes(answers: tuple[bool, bool, bool], score: float) -> None:
    assert dependent_score(QUESTIONS, dict(zip("123", answers, strict=True))) == pytest.approx(score)


@pytest.mark.parametrize(
    ("text", "said"), [("Yes.", True), ("  no, there is not", False), ("**YES**", True), ("是的", True), ("不是", False)]
)
def test_answers_are_read_from_their_first_word(text: str, said: bool) -> None:
    assert yes_or_no(text) is said


@pytest.mark.parametrize("text", ["", "maybe", "Nothing", "yesterday", "The image shows no cat", "1"])
def test_anything_else_is_no_answer(text: str) -> None:
    with pytest.raises(JudgeFailed):
        yes_or_no(text)


def test_scene_facts_are_true_of_their_scene_and_false_of_a_blank_one() -> None:
    spec = compose_scene(np.random.default_rng(0), "position")
    prompt = Prompt("p", "dense", "", facts_of(prompt_from_scene(spec.to_json())))
    assert [question.key for question in prompt.truth] == ["object0", "colour0", "object1", "colour1", "relation"]
    answerer = SceneAnswerer()
    assert answer_all(answerer, np.asarray(draw_scene(spec, 64)), prompt) == 1.0
    assert answer_all(answerer, np.full((32, 32, 3), 255, np.uint8), prompt) == 0.0


def test_scene_judge_does_not_guess_at_words() -> None:
    with pytest.raises(JudgeFailed, match="question_judge"):
        SceneAnswerer()(np.zeros((8, 8, 3), np.uint8), QUESTIONS[0])


def answerer_at(url: str) -> SceneAnswerer | ModelAnswerer:
    return answerer_of(QuestionJudgeConfig(kind="openai", model="eyes", endpoint=url, timeout_seconds=20))


def test_endpoint_sees_the_image_and_answers() -> None:
    with chat_server(said("Yes")) as (url, bodies):
        assert answerer_at(url)(np.zeros((8, 8, 3), np.uint8), QUESTIONS[0]) is True
    assert "Is there a cat?" in json.dumps(bodies)
    assert "data:image/png;base64," in json.dumps(bodies)


@pytest.mark.parametrize(
    "answer", [b"<html>", b"{}", b'{"choices": []}', b'{"choices": [{"message": {"content": "I cannot see images"}}]}', b"[" * 2_000_000]
)
def test_endpoint_that_talks_nonsense_fails(answer: bytes) -> None:
    with chat_server(answer) as (url, _), pytest.raises(JudgeFailed):
        answerer_at(url)(np.zeros((8, 8, 3), np.uint8), QUESTIONS[0])


def test_endpoint_that_is_away_fails() -> None:
    with pytest.raises(JudgeFailed, match="does not answer"):
        answerer_at("http://127.0.0.1:9/v1")(np.zeros((8, 8, 3), np.uint8), QUESTIONS[0])


def test_configuration_names_the_answerer() -> None:
    assert isinstance(answerer_of(QuestionJudgeConfig()), SceneAnswerer)
    local, remote = (answerer_of(QuestionJudgeConfig(kind=kind, model="m", endpoint=url)) for kind, url in KINDS)
    assert (local.name, remote.name) == ("m", "m")
    assert local.digest != remote.digest
    with pytest.raises(ValueError, match="endpoint must be given"):
        QuestionJudgeConfig(kind="openai", model="m")


def test_a_transformers_model_is_shown_the_image_and_its_words_are_read(tmp_path: Path) -> None:
    image = np.full((20, 30, 3), 255, np.uint8)
    agreeing = answerer_of(QuestionJudgeConfig(kind="transformers", model=str(write_tiny_vlm(tmp_path / "yes", ["yes"]))))
    assert agreeing(image, QUESTIONS[0]) is True
    vague = answerer_of(QuestionJudgeConfig(kind="transformers", model=str(write_tiny_vlm(tmp_path / "vague", ["perhaps"]))))
    with pytest.raises(JudgeFailed, match="neither yes nor no"):
        vague(image, QUESTIONS[0])


def test_other_weights_of_the_same_size_are_another_judge(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    section = QuestionJudgeConfig(kind="transformers", model=str(folder))
    digests = set()
    for content in (b"a" * 64, b"b" * 64):
        (folder / "model.safetensors").write_bytes(content)
        digests.add(answerer_of(section).digest)
    assert len(digests) == 2
