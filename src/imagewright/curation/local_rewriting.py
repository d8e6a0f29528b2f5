"""Prompt diversification by a chat model of transformers on this machine; its answers go through the same checks as an endpoint's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError

from imagewright.config.sft import RewriterConfig
from imagewright.curation.endpoint_rewriting import in_language, messages_for
from imagewright.curation.rewriting import PromptForm, RewriteRejected
from imagewright.errors import InputError, Problem

SMOLLM2 = "smollm2"


class LocalRewriter:
    """One generation per prompt, sampled at the configured temperature; deterministic in the seed and the order of the calls."""

    def __init__(self, section: RewriterConfig, seed: int) -> None:
        """Raises LanguageModelError for a model that cannot be loaded, InputError for one without a chat template."""
        from imagewright.models.language_model import load_causal_lm, packaged_smollm2

        source = packaged_smollm2() if section.model == SMOLLM2 else Path(section.model)
        self.model, self.tokenizer = load_causal_lm(source, "sft.rewriter.model")
        if not self.tokenizer.chat_template:
            rule, fix = "must be a chat model: its tokenizer has no chat template", "name an instruct model"
            raise InputError(Problem("sft.rewriter.model", rule, section.model, fix))
        ends = self.model.generation_config.eos_token_id or self.tokenizer.eos_token_id
        self.ends = [ends] if isinstance(ends, int) else list(ends or ())
        if not self.ends:
            rule = "must say which token ends an answer: neither the model nor its tokenizer does"
            raise InputError(Problem("sft.rewriter.model", rule, section.model, "name an instruct model"))
        self.model.to("cuda" if torch.cuda.is_available() else "cpu")
        self.section, self.seed, self.calls = section, seed, 0
        self.model.eval()

    def render(self, messages: list[dict[str, str]]) -> Any:
        """Token ids. A template that knows no system role gets its text at the head of the user's turn."""
        asked = {"add_generation_prompt": True, "return_tensors": "pt", "return_dict": True}
        try:
            return self.tokenizer.apply_chat_template(messages, **asked)
        except TemplateError:
            joined = "\n\n".join(message["content"] for message in messages)
            return self.tokenizer.apply_chat_template([{"role": "user", "content": joined}], **asked)

    @torch.no_grad()
    def rewrite(self, short: str, full: str, form: PromptForm, language: str) -> str:
        """One prompt of the form in the language. Raises RewriteRejected (`truncated`, `no_answer`, `wrong_language`)."""
        ids = self.render(messages_for(full, form, language)).to(self.model.device)
        sampling = {"do_sample": True, "temperature": self.section.temperature} if self.section.temperature > 0 else {"do_sample": False}
        self.calls += 1
        with torch.random.fork_rng():
            torch.manual_seed(self.seed + self.calls)
            output = self.model.generate(
                **ids,
                max_new_tokens=self.section.max_tokens,
                pad_token_id=self.ends[0],
                eos_token_id=self.ends,
                **sampling,
            )
        added = output[0, ids["input_ids"].shape[1] :]
        if not set(added.tolist()) & set(self.ends):
            raise RewriteRejected("truncated")
        text = str(self.tokenizer.decode(added, skip_special_tokens=True)).strip()
        if not text:
            raise RewriteRejected("no_answer")
        if not in_language(text, language):
            raise RewriteRejected("wrong_language")
        return text
