"""A chat model on this machine rewrites captions; what it answers is checked like an endpoint's answer."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from imagewright.config.sft import RewriterConfig
from imagewright.curation.local_rewriting import LocalRewriter
from imagewright.curation.rewriting import FORMS, RewriteRejected, diversify
from imagewright.curation.sft_data import rewriter_of
from imagewright.errors import InputError
from imagewright.models.language_model import LanguageModelError, byte_tokenizer, tiny_model

FULL = 'A poster that says "SALE 50%" on a red wall.'


def section(model: str, **changes: Any) -> RewriterConfig:
    return RewriterConfig.model_validate({"kind": "transformers", "model": model, "max_tokens": 60, **changes})


def save_tiny(folder: Path, template: bool = True) -> str:
    tokenizer = byte_tokenizer()
    if not template:
        tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    tiny_model(len(tokenizer)).save_pretrained(folder)
    return str(folder)


@pytest.mark.e2e
def test_the_packaged_model_writes_prompts_that_pass_the_checks_and_the_same_ones_again() -> None:
    caption = {"en": ("a star", "A large red star above a small blue circle.")}
    rewriter, rejected = LocalRewriter(section("smollm2"), 3), Counter[str]()
    prompts = diversify(caption, rewriter, FORMS, rejected)
    assert len(prompts) + rejected.total() == len(FORMS)
    assert prompts, "none of four answers could be used"
    assert all("Rewrite this caption" not in prompt.text for prompt in prompts)
    first = prompts[0]
    rewriter.calls = FORMS.index(first.form)
    assert rewriter.rewrite(*caption["en"], first.form, "en") == first.text


def test_an_answer_without_an_end_is_rejected_as_truncated(tmp_path: Path) -> None:
    rewriter = rewriter_of(section(save_tiny(tmp_path), max_tokens=16), 0)
    assert isinstance(rewriter, LocalRewriter)
    with pytest.raises(RewriteRejected, match="truncated"):
        rewriter.rewrite("a poster", FULL, "request", "en")


def test_a_model_that_cannot_chat_or_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no chat template"):
        LocalRewriter(section(save_tiny(tmp_path, template=False)), 0)
    with pytest.raises(LanguageModelError, match=r"sft\.rewriter\.model"):
        LocalRewriter(section(str(tmp_path / "nowhere")), 0)


@pytest.mark.parametrize("changes", [{"model": ""}, {"model": "m", "endpoint": "http://127.0.0.1:9/v1"}])
def test_settings_that_do_not_fit_the_kind_are_refused(changes: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="kind transformers needs model"):
        RewriterConfig.model_validate({"kind": "transformers", **changes})
