"""Questions with yes or no for an answer: who answers them (the scene judge, a local model, an endpoint), and how answers add up."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from imagewright.config.evaluation import QuestionJudgeConfig
from imagewright.evaluation import palette, scene_judge
from imagewright.evaluation.judges.verdicts import JudgeFailed, Pixels, Prompt
from imagewright.evaluation.scene_judge import SceneObject, ScenePrompt, read_scene, says_true
from imagewright.models.chat_endpoint import NoAnswerError, ask, image_message

MAX_NEW_TOKENS = 16
YES = re.compile(r"\W*(yes|true|是|对|有)(?![a-z])", re.IGNORECASE)
NO = re.compile(r"\W*(no|not|false|否|不|没)(?![a-z])", re.IGNORECASE)
INSTRUCTION = "Look at the image and answer with one word, yes or no."


@dataclass(frozen=True)
class Question:
    """One question of a prompt. parents: keys of questions that must be yes first. fact: what the scene judge checks."""

    key: str
    text: str
    parents: tuple[str, ...] = ()
    fact: ScenePrompt | None = None


Answerer = Callable[[Pixels, Question], bool]


def dependent_score(questions: Sequence[Question], answers: Mapping[str, bool]) -> float:
    """Share of questions answered yes, where a question counts as no when any of its parents is no (DSG, 2310.18235; DPG-Bench)."""
    assert questions, "a prompt needs a question"
    yes = [answers[item.key] and all(answers.get(parent, False) for parent in item.parents) for item in questions]
    return sum(yes) / len(yes)


def answer_all(answerer: Answerer, image: Pixels, prompt: Prompt) -> float:
    """Dependent score of a prompt whose truth is its questions. Raises JudgeFailed when any question has no answer."""
    return dependent_score(prompt.truth, {item.key: answerer(image, item) for item in prompt.truth})


def yes_or_no(text: str) -> bool:
    """The answer in a model's words. Raises JudgeFailed when it begins with neither."""
    said_yes, said_no = YES.match(text), NO.match(text)
    if bool(said_yes) == bool(said_no):
        raise JudgeFailed("neither yes nor no")
    return bool(said_yes)


def facts_of(said: ScenePrompt, colours: Sequence[str | None] = ()) -> tuple[Question, ...]:
    """Questions about a scene prompt: each object, its colour, the relation, the count; later ones depend on the objects.

    colours: of the objects where the prompt names none but its text does.
    """
    found: list[Question] = []
    named = [(shape, colour or (colours[i] if i < len(colours) else None)) for i, (shape, colour) in enumerate(said.objects)]
    for place, (shape, colour) in enumerate(named):
        found.append(Question(f"object{place}", f"Is there a {shape}?", (), ScenePrompt("single", ((shape, None),))))
        if colour:
            fact = ScenePrompt("colors", ((shape, colour),))
            found.append(Question(f"colour{place}", f"Is there a {colour} {shape}?", (f"object{place}",), fact))
    if said.relation is not None:
        (first, _), (second, _) = named
        fact = ScenePrompt("position", ((first, None), (second, None)), said.relation)
        found.append(Question("relation", f"Is a {first} {said.relation} a {second}?", ("object0", "object1"), fact))
    if said.count is not None:
        shape = named[0][0]
        fact = ScenePrompt("counting", ((shape, None),), count=said.count)
        found.append(Question("count", f"Is the number of {shape}s exactly {said.count}?", ("object0",), fact))
    return tuple(found)


@dataclass
class SceneAnswerer:
    """Answers from the scene judge's reading; the last image is read once for all its questions."""

    seen: tuple[bytes, Sequence[SceneObject]] = field(default=(b"", ()))

    @property
    def name(self) -> str:
        """Shown on the card."""
        return "scene judge"

    @property
    def digest(self) -> str:
        """SHA-256 of the judge's code."""
        return hashlib.sha256(b"".join(Path(module.__file__ or "").read_bytes() for module in (scene_judge, palette))).hexdigest()

    def __call__(self, image: Pixels, question: Question) -> bool:
        """Whether the question's fact is true. Raises JudgeFailed for a question in words only."""
        if question.fact is None:
            raise JudgeFailed("a question in words needs a model (evaluation.question_judge)")
        key = hashlib.sha256(image.tobytes()).digest()
        if self.seen[0] != key:
            self.seen = (key, read_scene(image))
        return says_true(self.seen[1], question.fact)


@dataclass(frozen=True)
class ModelAnswerer:
    """A model that is shown the image and the question. name: shown on the card. say: its words on an image and an instruction."""

    name: str
    digest: str
    say: Callable[[Pixels, str], str]

    def __call__(self, image: Pixels, question: Question) -> bool:
        """Asks once. Raises JudgeFailed when the model cannot be reached or says neither yes nor no."""
        return yes_or_no(self.say(image, f"{INSTRUCTION} {question.text}"))


def endpoint_answerer(section: QuestionJudgeConfig) -> ModelAnswerer:
    """Any OpenAI-compatible chat endpoint with vision. It shows no weights: its digest is of the model's name and the instruction."""

    def say(image: Pixels, text: str) -> str:
        body = {"model": section.model, "messages": [image_message(text, png_of(image))], "max_tokens": MAX_NEW_TOKENS, "temperature": 0}
        try:
            return ask(section.endpoint, body, section.timeout_seconds).text
        except NoAnswerError as error:
            raise JudgeFailed(f"endpoint does not answer: {error}") from error

    return ModelAnswerer(section.model, hashlib.sha256(f"{section.model}\0{INSTRUCTION}".encode()).hexdigest(), say)


def transformers_answerer(section: QuestionJudgeConfig) -> ModelAnswerer:
    """Any image-text-to-text model that transformers can load, by path or hub id; code that comes with a model is not run.

    Its digest is of every file in the model's folder, or of the hub id, with the instruction.
    """

    @cache
    def loaded() -> Any:
        from transformers import pipeline

        return pipeline("image-text-to-text", model=section.model, trust_remote_code=False)

    def say(image: Pixels, text: str) -> str:
        content = [{"type": "image", "image": Image.fromarray(image)}, {"type": "text", "text": text}]
        answer = loaded()(text=[{"role": "user", "content": content}], max_new_tokens=MAX_NEW_TOKENS, return_full_text=False)
        return str(answer[0]["generated_text"])

    return ModelAnswerer(section.model, digest_of_model(section.model), say)


def digest_of_model(model: str) -> str:
    """SHA-256 over the instruction and names and bytes of the files in a model's folder; of the name alone for a hub id."""
    hasher = hashlib.sha256(f"transformers\0{model}\0{INSTRUCTION}".encode())
    folder = Path(model)
    for path in sorted(path for path in folder.glob("*") if path.is_file()) if folder.is_dir() else ():
        with path.open("rb") as file:
            hasher.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return hasher.hexdigest()


def answerer_of(section: QuestionJudgeConfig) -> SceneAnswerer | ModelAnswerer:
    """The answerer a configuration names."""
    if section.kind == "openai":
        return endpoint_answerer(section)
    return transformers_answerer(section) if section.kind == "transformers" else SceneAnswerer()


def png_of(image: Pixels) -> bytes:
    """PNG bytes of an image [H, W, 3]."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
