"""Text from chat messages: a local transformers model or an OpenAI-compatible endpoint behind one interface, bounded in tokens and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from transformers import LogitsProcessor

from imagewright.models.chat_endpoint import ask
from imagewright.models.language_model import LanguageModel, render

MIN_LOG_PROBABILITY = -2.0
"""Mean per token below which what was added to an opening is dropped: a model that guesses adds noise. A fine-tuned one is far above."""


class TextGenerator(Protocol):
    """Answers user messages."""

    def generate(self, contents: Sequence[str], max_new_tokens: int, seconds: float) -> list[str]:
        """One plain answer per message. Raises OSError, ValueError or RuntimeError when there is none."""


@runtime_checkable
class TextCompleter(Protocol):
    """Goes on with answers that were begun for it."""

    def complete(self, contents: Sequence[str], openings: Sequence[str], max_new_tokens: int, seconds: float) -> list[str]:
        """One answer per message, each beginning with its opening; where the model only guesses, nothing is added.

        The bound counts what is added. Raises as `generate` does.
        """


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
        certainty = GreedyCertainty()
        with self.lock:
            batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left", verbose=False).to(model.device)
            output = model.generate(
                **batch,
                max_new_tokens=min(max_new_tokens, tokenizer.model_max_length),
                max_time=seconds,
                do_sample=False,
                logits_processor=[certainty],
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
        added = output[:, batch["input_ids"].shape[1] :]
        sure = certainty.means(added == tokenizer.eos_token_id) >= MIN_LOG_PROBABILITY
        found = []
        for opening, ids, trusted in zip(openings, added, sure, strict=True):
            text = str(tokenizer.decode(ids, skip_special_tokens=True)) if trusted or not opening else ""
            found.append(f"{opening}{text}".strip())
        return found


class GreedyCertainty(LogitsProcessor):
    """Watches greedy decoding: the log-probability of every token it takes."""

    def __init__(self) -> None:
        self.taken: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """scores: [B, V], handed on as they are."""
        self.taken.append(scores.float().log_softmax(dim=-1).amax(dim=-1))
        return scores

    def means(self, ended: Tensor) -> Tensor:
        """[B]: mean over the tokens of each answer up to and with its end. ended: [B, T], True on end tokens."""
        log_probs = torch.stack(self.taken, dim=1)
        counted = (ended.cumsum(dim=1) - ended.long()) == 0
        return (log_probs * counted).sum(dim=1) / counted.sum(dim=1)


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
