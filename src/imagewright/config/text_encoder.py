"""Section `text_encoder`: what turns prompts into the embeddings that condition the transformer."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from imagewright.config.base import Section


class TextEncoderConfig(Section):
    """The packaged MiniLM for machines without hub access, or any transformers language model by path or hub id."""

    kind: Literal["minilm", "transformers"] = "minilm"
    """minilm: packaged, English, uncased, 384-d (Chinese characters mostly become unknown). transformers: `source` says which."""
    source: str = ""
    """Folder, GGUF file or hub id of a transformers language model; with kind minilm it stays empty."""
    layer: int = Field(default=-2, ge=-128, le=127)
    """Index into hidden_states; -2 is the output before the last layer, without the final norm."""
    max_tokens: int = Field(default=32, ge=2, le=8192)
    """Prompts are cut to this many tokens, special tokens included (MiniLM's useful reach is short; 2,048 for Ministral-3)."""
    batch_size: int = Field(default=128, ge=1, le=4096)
    """Prompts of equal length encoded at once."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the encoder's weights."""

    @model_validator(mode="after")
    def source_fits_kind(self) -> Self:
        """Refuses a source that would be ignored, or a missing one."""
        if self.kind == "minilm" and self.source:
            raise ValueError("source must be empty with kind minilm, which is packaged; set kind: transformers")
        if self.kind == "transformers" and not self.source:
            raise ValueError("source must name a folder, a GGUF file or a hub id with kind transformers")
        return self
