"""The transformer's shape: the fields of a diffusers `transformer/config.json`, under the same names."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from imagewright.config.base import Section


class ModelConfig(Section):
    """Architecture of the DiT. The defaults make a model of about 6 million parameters; the released one is in recipe `ernie_8b`."""

    hidden_size: int = Field(default=256, ge=8, le=65536)
    """Width of the residual stream."""
    num_layers: int = Field(default=6, ge=1, le=512)
    """Transformer blocks."""
    num_attention_heads: int = Field(default=4, ge=1, le=1024)
    """Attention heads; each is hidden_size / num_attention_heads wide."""
    ffn_hidden_size: int = Field(default=768, ge=8, le=262144)
    """Inner width of the gated feed-forward (3 x hidden_size in the released model)."""
    in_channels: int = Field(default=128, ge=1, le=4096)
    """Channels of one packed latent token: 4 x the VAE's latent channels."""
    out_channels: int = Field(default=128, ge=1, le=4096)
    """Channels of the predicted velocity; equal to in_channels."""
    text_in_dim: int = Field(default=576, ge=1, le=65536)
    """Width of the prompt embeddings (hidden size of the text encoder)."""
    rope_theta: int = Field(default=256, ge=2)
    """Base of the rotary frequencies."""
    rope_axes_dim: tuple[int, int, int] = (16, 24, 24)
    """Rotary widths of the axes (text position, row, column); even numbers that sum to the head width."""
    qk_layernorm: Literal[True] = True
    """Per-head RMS norm of queries and keys. The reference class cannot be built without it, so neither can this one."""
    eps: float = Field(default=1e-6, gt=0.0, lt=1e-1)
    """Added to the variance in every norm."""
    patch_size: Literal[1] = 1
    """Latent pixels per token side. The 2x2 patching is already part of the VAE's packing."""

    @model_validator(mode="after")
    def check_widths(self) -> Self:
        """Refuses head and rotary widths that do not fit the hidden size."""
        if self.hidden_size % (2 * self.num_attention_heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} must be an even multiple of num_attention_heads {self.num_attention_heads}: "
                "rotary embeddings turn the two halves of a head"
            )
        if any(width < 0 or width % 2 for width in self.rope_axes_dim):
            raise ValueError(f"rope_axes_dim {list(self.rope_axes_dim)} must hold even numbers, none below 0")
        if sum(self.rope_axes_dim) != self.head_dim:
            raise ValueError(
                f"rope_axes_dim {list(self.rope_axes_dim)} sums to {sum(self.rope_axes_dim)}, "
                f"the head width hidden_size / num_attention_heads is {self.head_dim}; they must be equal"
            )
        if self.out_channels != self.in_channels:
            raise ValueError(
                f"out_channels {self.out_channels} must equal in_channels {self.in_channels}: the velocity lives in latent space"
            )
        return self

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads
