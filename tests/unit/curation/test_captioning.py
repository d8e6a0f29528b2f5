"""Every captioner: the source's words, any image-text-to-text model, any OpenAI-compatible endpoint; bad answers cost a caption only."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from fixtures.chat_server import chat_server, said
from fixtures.tiny_vision_language import write_vision_language_model
from PIL import Image

from imagewright.config.curation import CaptionerConfig, CurationConfig
from imagewright.config.data import DataConfig, ScenesConfig
from imagewright.curation.captioning import PROMPT, captioner_of, captions_from_answer, prompt_digest, write_captions
from imagewright.data.manifest import Caption, read_manifest
from imagewright.sources.ingest import ingest

ROW = {"captions": [], "concept": "red apple", "category": "food/fruit"}


def red_png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (255, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def test_the_metadata_captioner_keeps_the_sources_words() -> None:
    captioner = captioner_of(CaptionerConfig())
    own = {**ROW, "captions": [{"form": "long", "language": "zh", "text": "\u82f9\u679c"}]}
    assert captioner.caption(b"", own) == (Caption("long", "zh", "\u82f9\u679c"),)
    assert captioner.caption(b"", ROW) == (Caption("short", "en", "red apple"),)


def test_any_image_text_to_text_model_captions_through_transformers(tmp_path: Path) -> None:
    folder = write_vision_language_model(tmp_path, sorted(set(re.findall(r"\w+", PROMPT))))
    captioner = captioner_of(CaptionerConfig(kind="transformers", model=str(folder), languages=("en",)))
    (caption,) = captioner.caption(red_png(), ROW)
    # A random model writes words it knows: prose, so the long caption.
    assert (caption.form, caption.language) == ("long", "en") and caption.text.strip()
    assert captioner.version == f"transformers-{folder}-{prompt_digest()}"


def test_an_endpoint_is_asked_once_a_language_and_its_json_gives_the_forms() -> None:
    answer = said('Here: {"long": "A red square.", "tags": "red, square", "user": 7, "mood": "calm"}')
    with chat_server(answer) as (url, bodies):
        captioner = captioner_of(CaptionerConfig(kind="openai", model="m", endpoint=url))
        found = captioner.caption(red_png(), ROW)
    assert [(c.form, c.language) for c in found] == [("long", "en"), ("tags", "en"), ("long", "zh"), ("tags", "zh")]
    assert ["Write in English." in json.dumps(body) for body in bodies] == [True, False]
    assert captioner.version == f"openai-m-{prompt_digest()}"


@pytest.mark.parametrize(
    ("answer", "captions"),
    [
        ("A red square.", [Caption("long", "en", "A red square.")]),
        ("", []),
        ('{"long": ', []),
        ('{"long": 3}', []),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, []),
        ("[1] {]}", []),
    ],
    ids=["prose", "nothing", "cut", "no text", "deep", "odd"],
)
def test_an_answer_that_cannot_be_read_gives_no_caption(answer: str, captions: list[Caption]) -> None:
    assert captions_from_answer(answer, "en") == captions


def test_a_dead_endpoint_leaves_samples_without_captions_and_stops_nothing(tmp_path: Path) -> None:
    ingest(DataConfig(scenes=ScenesConfig(num_samples=3)), tmp_path, seed=0)
    captioner = CaptionerConfig(kind="openai", model="m", endpoint="http://127.0.0.1:9/v1", languages=("en",))
    table = write_captions(read_manifest(tmp_path), CurationConfig(captioner=captioner), tmp_path)
    assert table["captions"].to_pylist() == [[], [], []]
