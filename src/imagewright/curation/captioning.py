"""Who writes captions: the source's own words, a local image-text-to-text model, or an OpenAI-compatible endpoint.

A captioner has a version (its kind, model and prompt digest), so captions of different makers never mix unseen.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from imagewright.config.curation import CaptionerConfig, CurationConfig
from imagewright.curation.captions import clean_captions, metadata_captions, transcribe
from imagewright.data.images import BadImage, DecodeLimits, decode_rgb
from imagewright.data.manifest import CAPTION_TYPE, Caption
from imagewright.data.shards import SHARDS_FOLDER, ShardError, ShardReader
from imagewright.models.chat_endpoint import NoAnswerError, ask, image_message

PROMPT = (
    "Describe this image for training a text-to-image model. First read all visible text and transcribe it exactly, in its own language. "
    "Answer with one JSON object with the keys long, medium, short, tags and user: a detailed description of objects, colours, counts, "
    "positions and style; one sentence; a few words; comma-separated tags; what a person would type to get this image."
)
FORMS = ("long", "medium", "short", "tags", "user")
LANGUAGE_NAMES = {"en": "English", "zh": "Chinese"}
TIMEOUT_SECONDS = 120
MAX_NEW_TOKENS = 512


class Captioner(Protocol):
    """Writes captions of one image."""

    @property
    def version(self) -> str:
        """Kind, model and prompt digest."""

    def caption(self, image: bytes, row: Mapping[str, Any]) -> tuple[Caption, ...]:
        """Captions of encoded image bytes and its manifest row; empty when it has nothing to say."""


@dataclass(frozen=True)
class MetadataCaptioner:
    """The words the source came with; a source without captions still names its concept."""

    version: str = "metadata-1"

    def caption(self, image: bytes, row: Mapping[str, Any]) -> tuple[Caption, ...]:
        """The row's captions, else its concept or category."""
        own = tuple(Caption(**caption) for caption in row["captions"])
        return own or metadata_captions(row["concept"], row["category"])


@dataclass(frozen=True)
class EndpointCaptioner:
    """Any OpenAI-compatible chat endpoint with vision, such as vLLM."""

    section: CaptionerConfig

    @property
    def version(self) -> str:
        """Kind, model and prompt digest."""
        return f"openai-{self.section.model}-{prompt_digest()}"

    def caption(self, image: bytes, row: Mapping[str, Any]) -> tuple[Caption, ...]:
        """Asks once per language; an endpoint that fails or answers without JSON gives no captions for that language."""
        found: list[Caption] = []
        for language in self.section.languages:
            message = image_message(f"{PROMPT} Write in {LANGUAGE_NAMES[language]}.", image)
            body = {"model": self.section.model, "messages": [message], "temperature": 0}
            with contextlib.suppress(NoAnswerError):
                found += captions_from_answer(ask(self.section.endpoint, body, TIMEOUT_SECONDS).text, language)
        return tuple(found)


@dataclass(frozen=True)
class TransformersCaptioner:
    """Any image-text-to-text model that transformers can load, by path or hub id."""

    section: CaptionerConfig

    @property
    def version(self) -> str:
        """Kind, model and prompt digest."""
        return f"transformers-{self.section.model}-{prompt_digest()}"

    @cached_property
    def pipeline(self) -> Any:
        """The loaded pipeline; code that comes with a model is not run."""
        from transformers import pipeline

        return pipeline("image-text-to-text", model=self.section.model, trust_remote_code=False)

    def caption(self, image: bytes, row: Mapping[str, Any]) -> tuple[Caption, ...]:
        """Asks once per language."""
        from PIL import Image

        picture = Image.fromarray(decode_rgb(image))
        found: list[Caption] = []
        for language in self.section.languages:
            content = [{"type": "image", "image": picture}, {"type": "text", "text": f"{PROMPT} Write in {LANGUAGE_NAMES[language]}."}]
            answer = self.pipeline(text=[{"role": "user", "content": content}], max_new_tokens=MAX_NEW_TOKENS, return_full_text=False)
            found += captions_from_answer(str(answer[0]["generated_text"]), language)
        return tuple(found)


def captioner_of(section: CaptionerConfig) -> Captioner:
    """The captioner a configuration names."""
    if section.kind == "openai":
        return EndpointCaptioner(section)
    return TransformersCaptioner(section) if section.kind == "transformers" else MetadataCaptioner()


def prompt_digest() -> str:
    """First 12 hex digits of the prompt's SHA-256."""
    return hashlib.sha256(PROMPT.encode()).hexdigest()[:12]


def captions_from_answer(answer: str, language: str) -> list[Caption]:
    """The caption forms in a model's JSON answer (text around the object is ignored); plain prose becomes the long caption."""
    start, end = answer.find("{"), answer.rfind("}")
    try:
        tree = json.loads(answer[start : end + 1]) if 0 <= start < end else None
    except (ValueError, RecursionError):
        tree = None
    if isinstance(tree, dict):
        return [Caption(form, language, tree[form]) for form in FORMS if isinstance(tree.get(form), str)]
    return [Caption("long", language, answer)] if answer.strip() and start < 0 else []


def write_captions(table: pa.Table, section: CurationConfig, pool: Path) -> pa.Table:
    """Captions and visible text of every sample that is still kept: written, cleaned, transcribed. A sample left without any has none."""
    captioner = captioner_of(section.captioner)
    limits = DecodeLimits(**section.decode.model_dump())
    needs_image = not isinstance(captioner, MetadataCaptioner)
    columns = ["captions", "concept", "category", "visible_text", "drop_reason", "shard", "offset", "length", "sha256"]
    read_text = table["ocr_text"].to_pylist() if "ocr_text" in table.column_names else [""] * table.num_rows
    captions, texts = [], []
    with ShardReader(pool / SHARDS_FOLDER) as reader:
        for row, seen in zip(table.select(columns).to_pylist(), read_text, strict=True):
            text = row["visible_text"] or seen or ""
            image = b""
            written: tuple[Caption, ...] = ()
            if not row["drop_reason"]:
                try:
                    if needs_image:
                        image = reader.read(row["shard"], row["offset"], row["length"], row["sha256"])
                        decode_rgb(image, limits)
                    written = captioner.caption(image, row)
                except (ShardError, BadImage):
                    written = ()
            else:
                written = tuple(Caption(**caption) for caption in row["captions"])
            cleaned = transcribe(clean_captions(written, section.captioner.max_chars), text)
            captions.append([{"form": c.form, "language": c.language, "text": c.text} for c in cleaned])
            texts.append(text)
    table = table.set_column(
        table.column_names.index("captions"), table.schema.field("captions"), pa.array(captions, pa.list_(CAPTION_TYPE))
    )
    return table.set_column(table.column_names.index("visible_text"), table.schema.field("visible_text"), pa.array(texts, pa.string()))
