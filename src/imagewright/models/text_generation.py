"""Text from chat messages: a local transformers model or an OpenAI-compatible endpoint behind one interface, bounded in tokens and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol, runtime_checkable

import torch

from imagewright.models.chat_endpoint import ask
from imagewright.models.language_model import LanguageModel, render


class TextGenerator(Protocol):
    """Answers user messages."""

    def generate(self, contents: Sequence[str], max_new_tokens: int, seconds: float) -> list[str]:
        """One plain answer per message. Raises OSError, ValueError or RuntimeError when there is none."""


@runtime_checkable
class TextCompleter(Protocol):
    """Goes on with answers that were begun for it."""

    def complete(self, contents: Sequence[str], openings: Sequence[str], max_new_tokens: int, seconds: float) -> list[str]:
        """One answer per message, each beginning with its opening; the bound counts what is added. Raises as `generate` does."""


@dataclass(frozen=True)
class LocalGenerator:
    """Greedy decoding of a batch, so that the same prompt always becomes the same text. One call at a time."""

    language_model: LanguageModel
    lock: Any

    @classmethod
    def of(cls, language_model: LanguageModel) -> LocalGenerator:
        """A generator with a lock of its own."""
        return cls(language_model, Lock())

    def generate(self, contents: Sequence[str], max_new_tokens: int, seconds: float) -> list[str]:
        """An answer cut by the bound or the clock is returned as far as it came."""
        return self.complete(contents, [""] * len(contents), max_new_tokens, seconds)

    @torch.no_grad()
    def complete(self, contents: Sequence[str], openings: Sequence[str], max_new_tokens: int, seconds: float) -> list[str]:
        """Pads on the left, writes each opening behind its message and lets the model go on."""
        model, tokenizer = self.language_model.model, self.language_model.tokenizer
        texts = [render(tokenizer, content) + opening for content, opening in zip(contents, openings, strict=True)]
        with self.lock:
            batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left", verbose=False).to(model.device)
            output = model.generate(
                **batch,
                max_new_tokens=min(max_new_tokens, tokenizer.model_max_length),
                max_time=seconds,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
            start = batch["input_ids"].shape[1]
            added = [str(tokenizer.decode(ids[start:], skip_special_tokens=True)) for ids in output]
        return [f"{opening}{text}".strip() for opening, text in zip(openings, added, strict=True)]


@dataclass(frozen=True)
class RemoteGenerator:
    """Any OpenAI-compatible chat endpoint."""

    endpoint: str
    model: str
    system_prompt: str

    def generate(self, contents: Sequence[str], max_new_tokens: int, seconds: float) -> list[str]:
        """Asks once per message. Raises NoAnswerError."""
        return [self.answer(content, max_new_tokens, seconds) for content in contents]

    def answer(self, content: str, max_new_tokens: int, seconds: float) -> str:
        """The answer to one message, as far as it came."""
        messages = [{"role": "system", "content": self.system_prompt}, {"role": "user", "content": content}]
        body = {"model": self.model, "messages": messages, "max_tokens": max_new_tokens, "temperature": 0}
        return ask(self.endpoint, body, seconds).text
