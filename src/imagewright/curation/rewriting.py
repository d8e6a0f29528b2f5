"""Prompt diversification: one caption becomes several prompts as people write them, visible text kept word for word.

The report's four forms (section 3): keyword, natural request, instruction, detailed composition.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from imagewright.errors import InputError

PromptForm = Literal["keyword", "request", "instruction", "detailed"]
FORMS: tuple[PromptForm, ...] = ("keyword", "request", "instruction", "detailed")
MAX_PROMPT_CHARS = 4000

QUOTED = re.compile(r'"([^"]+)"|“([^”]+)”|「([^」]+)」|『([^』]+)』|(?<!\w)\'([^\']+)\'(?!\w)')
# Words that carry no picture; what a keyword prompt leaves out.
STOP_WORDS = frozenset({
    "a", "an", "the", "is", "are", "was", "were", "of", "on", "in", "at", "and", "with", "there", "this", "that", "it", "its",
    "shows", "show", "picture", "image", "drawn", "simple", "style", "to", "for", "by",
})  # fmt: skip
ENGLISH: Mapping[PromptForm, Sequence[str]] = {
    "request": ("Could you draw {what} for me?", "I would like {what}.", "Can I get {what}, please?", "I need {what}."),
    "instruction": ("Draw {what}.", "Create an image of {what}.", "Generate {what}.", "Make a picture that shows {what}."),
    "detailed": ("{full} Composition: {what}.", "Detailed composition. {full}", "{full} Keep exactly this composition."),
}
CHINESE: Mapping[PromptForm, Sequence[str]] = {
    "request": ("请帮我画{what}。", "我想要{what}。", "可以画{what}吗？"),
    "instruction": ("画{what}。", "生成一张图：{what}。", "绘制{what}。"),
    "detailed": ("{full}构图：{what}。", "{full}请严格按照这个构图。"),
}


class RewriteRejected(ValueError):
    """A rewrite that cannot be used; its message is the reason under which it is counted."""


class Rewriter(Protocol):
    """Anything that turns captions into one prompt of a form: rules here, a language model behind an endpoint elsewhere."""

    def rewrite(self, short: str, full: str, form: PromptForm, language: str) -> str:
        """One prompt. Raises OSError or ValueError when it has none to give; the caller counts that and goes on."""


@dataclass(frozen=True)
class Prompt:
    """One diversified prompt of an image."""

    form: PromptForm
    language: str
    text: str


class RuleRewriter:
    """Rewrites by templates; deterministic in the seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def rewrite(self, short: str, full: str, form: PromptForm, language: str) -> str:
        """Keywords keep every content word once, in order; the other forms put the caption into a sentence people would write."""
        if form == "keyword":
            return keywords(full, language)
        templates = (CHINESE if language == "zh" else ENGLISH)[form]
        template = templates[int(self.rng.integers(len(templates)))]
        ending = full if full.rstrip().endswith((".", "。", "!", "?")) else full + ("。" if language == "zh" else ".")
        return template.format(what=short.strip().rstrip(".。"), full=ending)


def keywords(text: str, language: str) -> str:
    """Content words once each, comma-separated; quoted text stays one quoted piece."""
    if language == "zh":
        parts = re.split(r"[，。、：；,.\s]+", text)
    else:
        pieces = re.findall(r'"[^"]+"|“[^”]+”|[\w\'-]+', text)
        parts = [piece if piece[0] in '"“' else piece.lower() for piece in pieces]
        parts = [piece for piece in parts if piece not in STOP_WORDS]
    return ", ".join(dict.fromkeys(part for part in parts if part))


def visible_texts(text: str) -> list[str]:
    """Every quoted text, in order: the words a picture must show."""
    return [next(group for group in match.groups() if group) for match in QUOTED.finditer(text)]


def rejection(prompt: str, source: str) -> str:
    """Why a rewrite cannot be used; empty when it can. A rewrite that loses visible text would teach the model to ignore it."""
    if not prompt.strip():
        return "empty"
    if len(prompt) > MAX_PROMPT_CHARS:
        return "too_long"
    if any(unicodedata.category(character) == "Cc" and character not in "\n\t" for character in prompt):
        return "control_characters"
    if re.search(r"</?(html|body|div|head)\b", prompt, re.IGNORECASE):
        return "markup"
    missing = [text for text in visible_texts(source) if text not in prompt]
    return "lost_visible_text" if missing else ""


def diversify(
    captions: Mapping[str, tuple[str, str]], rewriter: Rewriter, forms: Sequence[PromptForm], rejected: Counter[str]
) -> list[Prompt]:
    """Prompts of one image. captions: language -> (short caption, full caption). `rejected` counts what was thrown away and why."""
    prompts: list[Prompt] = []
    for language, (short, full) in captions.items():
        for form in forms:
            try:
                text = rewriter.rewrite(short, full, form, language)
            except RewriteRejected as error:
                rejected[f"rewriter_{error}"] += 1
                continue
            except (OSError, ValueError) as error:
                if isinstance(error, InputError):
                    raise
                rejected[f"rewriter_{type(error).__name__}"] += 1
                continue
            reason = rejection(text, full)
            if reason:
                rejected[reason] += 1
            elif all(text != prompt.text for prompt in prompts):
                prompts.append(Prompt(form, language, text))
    return prompts
