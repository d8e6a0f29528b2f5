"""Prompt diversification by a language model behind any OpenAI-compatible chat endpoint; what it answers is checked, never trusted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from imagewright.config.sft import RewriterConfig
from imagewright.curation.rewriting import QUOTED, PromptForm, RewriteRejected, visible_texts
from imagewright.errors import InputError, Problem
from imagewright.models.chat_endpoint import NoAnswerError, ask

HAN = re.compile(r"[㐀-䶿一-鿿]")
LETTER = re.compile(r"[^\W\d_]")
MIN_HAN_SHARE, MAX_HAN_SHARE = 0.3, 0.1
"""Share of Han characters among the letters outside quotes that a Chinese prompt has at least, and an English one at most."""
LANGUAGE_NAMES = {"en": "English", "zh": "Chinese"}
INSTRUCTIONS: Mapping[PromptForm, str] = {
    "keyword": "as comma-separated keywords",
    "request": "as a natural request somebody types to an assistant",
    "instruction": "as one short instruction",
    "detailed": "as a detailed specification of the composition",
}
SYSTEM = (
    "You rewrite image captions into prompts people would type to get that image. Answer with the prompt alone, no comments or markup. "
    "Add nothing that the caption does not say. Keep every text in double quotes exactly as it is, quotes included."
)


class EndpointDownError(InputError):
    """An endpoint that failed too often in a row."""


@dataclass
class EndpointRewriter:
    """One request per prompt. failures: requests that got no answer since the last one that did."""

    section: RewriterConfig
    failures: int = field(default=0, init=False)

    def rewrite(self, short: str, full: str, form: PromptForm, language: str) -> str:
        """One prompt of the form in the language.

        Raises RewriteRejected (`timeout`, `unreachable`, `not_json`, `no_answer`, `truncated`, `wrong_language`), which the caller counts,
        and EndpointDownError after too many requests without an answer: a dead endpoint must not cost a timeout for every prompt.
        """
        body = {
            "model": self.section.model,
            "messages": messages_for(full, form, language),
            "temperature": self.section.temperature,
            "max_tokens": self.section.max_tokens,
        }
        try:
            answer = ask(self.section.endpoint, body, self.section.timeout_seconds)
            if not answer.is_whole:
                raise RewriteRejected("truncated")
        except (NoAnswerError, RewriteRejected) as error:
            self.count_failure(error)
            raise RewriteRejected(str(error)) from error
        self.failures = 0
        if not in_language(answer.text, language):
            raise RewriteRejected("wrong_language")
        return answer.text

    def count_failure(self, error: Exception) -> None:
        """Gives up after too many failures in a row."""
        self.failures += 1
        if self.failures >= self.section.max_failures:
            fix = "start the endpoint, or set sft.rewriter.kind: rules"
            raise EndpointDownError(
                Problem("sft.rewriter.endpoint", f"gave no prompt {self.failures} times in a row: {error}", self.section.endpoint, fix)
            ) from error


def messages_for(full: str, form: PromptForm, language: str) -> list[dict[str, str]]:
    """What a chat model is asked."""
    task = f"Rewrite this caption in {LANGUAGE_NAMES.get(language, language)} {INSTRUCTIONS[form]}:\n{full}"
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": task}]


def in_language(text: str, language: str) -> bool:
    """Whether the words outside quotes are of the language; quoted text keeps its own."""
    plain = QUOTED.sub(" ", text) if visible_texts(text) else text
    letters = LETTER.findall(plain)
    if not letters:
        return bool(visible_texts(text))
    share = sum(bool(HAN.match(letter)) for letter in letters) / len(letters)
    return share >= MIN_HAN_SHARE if language == "zh" else share <= MAX_HAN_SHARE
