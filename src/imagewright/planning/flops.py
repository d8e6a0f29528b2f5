"""Floating-point operations of the DiT, from its shape alone; feeds MFU while training and the plan before it."""

from __future__ import annotations

from imagewright.config.model import ModelConfig

TRAINING_FACTOR = 3.0
"""Backward costs twice the forward pass: one product for the inputs' gradient, one for the weights'."""


def block_parameters(model: ModelConfig) -> int:
    """Weights of one block that multiply every token: 4 h^2 attention, 3 h f feed-forward."""
    return 4 * model.hidden_size**2 + 3 * model.hidden_size * model.ffn_hidden_size


def num_parameters(model: ModelConfig) -> int:
    """All parameters: blocks (with norms), shared modulation, time embedding, embedders, output."""
    hidden = model.hidden_size
    block = block_parameters(model) + 2 * hidden + 2 * model.head_dim
    modulation = hidden * 6 * hidden + 6 * hidden
    time = 2 * (hidden * hidden + hidden)
    text = model.text_in_dim * hidden if model.text_in_dim != hidden else 0
    image = model.in_channels * hidden + hidden
    final = hidden * 2 * hidden + 2 * hidden + hidden * model.out_channels + model.out_channels
    return model.num_layers * block + modulation + time + text + image + final


def forward_flops(model: ModelConfig, image_tokens: int, text_tokens: int) -> float:
    """One forward pass of one sample: 2 FLOPs per weight and token, and 4 h n^2 per block for attention over n tokens.

    1024 px with 256 text tokens on the released shape: 68.3 + 11.2 = 79.5 TFLOP.
    """
    tokens = image_tokens + text_tokens
    linear = 2.0 * block_parameters(model) * tokens
    attention = 4.0 * model.hidden_size * tokens**2
    ends = 2.0 * model.hidden_size * (image_tokens * (model.in_channels + model.out_channels) + text_tokens * model.text_in_dim)
    return model.num_layers * (linear + attention) + ends
