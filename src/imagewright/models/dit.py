"""The DiT: a single-stream transformer over packs, with the parameter names of diffusers' `ErnieImageTransformer2DModel`.

Between the packed loader and the flow-matching losses; the sampler and every method run it as `model(pack)`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from imagewright.config.model import ModelConfig
from imagewright.models.attention import SelfAttention
from imagewright.models.kernels import GatedGeluFunction
from imagewright.models.modulation import FinalNorm, ModulatedRMSNorm, TimestepEmbedding, add_gated
from imagewright.models.packing import Layout, Pack
from imagewright.models.projections import join_weights, project_together
from imagewright.models.rope import rotary_tables


class StepTables(NamedTuple):
    """What all blocks share within one step.

    cos, sin: [rows, 1, head_dim]. The other six: [rows, hidden] fp32; the scales already hold the 1 of (1 + scale).
    """

    cos: Tensor
    sin: Tensor
    shift_msa: Tensor
    scale_msa: Tensor
    gate_msa: Tensor
    shift_mlp: Tensor
    scale_mlp: Tensor
    gate_mlp: Tensor


class PointwiseConv(nn.Conv2d):
    """A 1x1 convolution on tokens: the released weights store the latent embedder as [hidden, channels, 1, 1]."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1)

    def forward(self, input: Tensor) -> Tensor:
        """[N, in_channels] -> [N, out_channels]."""
        return F.linear(input, self.weight.flatten(1), self.bias)


class LatentEmbedder(nn.Module):
    """Latent channels to the residual stream."""

    def __init__(self, in_channels: int, hidden_size: int) -> None:
        super().__init__()
        self.proj = PointwiseConv(in_channels, hidden_size)

    def forward(self, tokens: Tensor) -> Tensor:
        """[N, in_channels] -> [N, hidden]."""
        out: Tensor = self.proj(tokens)
        return out


class FeedForward(nn.Module):
    """Gated feed-forward: linear_fc2(up(x) * gelu(gate(x))) with the exact (erf) GELU."""

    def __init__(self, hidden_size: int, ffn_hidden_size: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden_size, ffn_hidden_size, bias=False)
        self.up_proj = nn.Linear(hidden_size, ffn_hidden_size, bias=False)
        self.linear_fc2 = nn.Linear(ffn_hidden_size, hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[rows, hidden] -> [rows, hidden]."""
        gated = GatedGeluFunction.apply(project_together((self.gate_proj, self.up_proj), x))  # type: ignore[no-untyped-call]
        out: Tensor = self.linear_fc2(gated)
        return out


class Block(nn.Module):
    """Attention and feed-forward, each between a modulated norm and a gated residual. The modulation is shared by all blocks."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.adaLN_sa_ln = ModulatedRMSNorm(config.hidden_size, config.eps)
        self.self_attention = SelfAttention(config.hidden_size, config.num_attention_heads, config.eps)
        self.adaLN_mlp_ln = ModulatedRMSNorm(config.hidden_size, config.eps)
        self.mlp = FeedForward(config.hidden_size, config.ffn_hidden_size)

    def forward(self, x: Tensor, step: StepTables, layout: Layout, only: Tensor | None = None) -> Tensor:
        """[rows, hidden] -> [rows, hidden].

        only [N]: rows whose output is needed. The last block needs image rows alone; its text rows serve as keys and values and go no
        further, which saves their queries' output projection and feed-forward.
        """
        attended = self.self_attention(self.adaLN_sa_ln(x, step.scale_msa, step.shift_msa), step.cos, step.sin, layout, only)
        gate_msa, scale_mlp, shift_mlp, gate_mlp = step.gate_msa, step.scale_mlp, step.shift_mlp, step.gate_mlp
        if only is not None:
            x, gate_msa, scale_mlp, shift_mlp, gate_mlp = (
                rows.index_select(0, only) for rows in (x, gate_msa, scale_mlp, shift_mlp, gate_mlp)
            )
        x = add_gated(x, gate_msa, attended)
        return add_gated(x, gate_mlp, self.mlp(self.adaLN_mlp_ln(x, scale_mlp, shift_mlp)))


class ErnieImageDiT(nn.Module):
    """Velocity of every image token of a pack.

    Build big models under `torch.device("meta")` and fill them with `diffusers_adapter.load_transformer`, or with `to_empty` and
    `initialise`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden_size
        self.x_embedder = LatentEmbedder(config.in_channels, hidden)
        self.text_proj = nn.Linear(config.text_in_dim, hidden, bias=False) if config.text_in_dim != hidden else None
        self.time_embedding = TimestepEmbedding(hidden)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden, 6 * hidden))
        self.layers = nn.ModuleList([Block(config) for _ in range(config.num_layers)])
        self.final_norm = FinalNorm(hidden, config.eps)
        self.final_linear = nn.Linear(hidden, config.out_channels)
        self.checkpoint_every = 0
        if self.final_linear.weight.device.type != "meta":
            self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        """Xavier weights, zero biases, unit norms; modulation and output zero, so a fresh model predicts exactly 0.

        The released model zeroes adaLN_modulation and final_linear; the rest is unpublished, Xavier is DiT's choice (2212.09748).
        """
        for name, parameter in self.named_parameters():
            if name.startswith(("adaLN_modulation", "final_linear")) or name.endswith("bias"):
                parameter.zero_()
            elif parameter.ndim == 1:
                parameter.fill_(1.0)
            else:
                nn.init.xavier_uniform_(parameter.flatten(1))

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights, in which tokens are processed."""
        return self.final_linear.weight.dtype

    def set_checkpointing(self, every: int) -> None:
        """Recomputes every `every`-th block in the backward pass instead of keeping its activations; 0 keeps all, 1 recomputes all."""
        assert every >= 0, "checkpointing interval counts blocks"
        self.checkpoint_every = every

    def join_projections(self) -> None:
        """Freezes the layers that share an input and lays their weights side by side, for serving: a step then copies no weights."""
        for block in self.layers:
            assert isinstance(block, Block)
            attention, mlp = block.self_attention, block.mlp
            join_weights((attention.to_q, attention.to_k, attention.to_v))
            join_weights((mlp.gate_proj, mlp.up_proj))

    def compile_blocks(self, **options: Any) -> None:
        """Compiles each block with `torch.compile`; one graph serves all blocks because they share their code."""
        for block in self.layers:
            block.compile(**{"dynamic": True, **options})

    def forward(self, pack: Pack) -> Tensor:
        """Velocity [N, out_channels] of the image tokens, in pack order."""
        layout = pack.layout
        condition = self.time_embedding(pack.timesteps, self.dtype)
        step = self.step_tables(condition, layout)
        x = self.embed(pack, layout)
        for index, block in enumerate(self.layers):
            only = layout.image_rows if index == len(self.layers) - 1 else None
            if self.checkpoint_every and torch.is_grad_enabled() and index % self.checkpoint_every == 0:
                x = checkpoint(block, x, step, layout, only, use_reentrant=False)
            else:
                x = block(x, step, layout, only)
        x = self.final_norm(x, condition, layout.image_segment_ids)
        out: Tensor = self.final_linear(x)
        return out

    def embed(self, pack: Pack, layout: Layout) -> Tensor:
        """Image and text tokens in row order, [rows, hidden]."""
        text = pack.text_tokens.to(self.dtype)
        if self.text_proj is not None:
            text = self.text_proj(text)
        image = self.x_embedder(pack.image_tokens.to(self.dtype))
        return torch.cat([image, text]).index_select(0, layout.source)

    def step_tables(self, condition: Tensor, layout: Layout) -> StepTables:
        """Rotary tables and modulation rows; condition: [B, hidden]."""
        config = self.config
        cos, sin = rotary_tables(layout.position_ids, config.rope_axes_dim, config.rope_theta, self.dtype)
        rows = self.adaLN_modulation(condition).float().index_select(0, layout.segment_ids)
        shift_msa, scale_msa, gate_msa, shift_mlp, scale_mlp, gate_mlp = rows.chunk(6, dim=-1)
        return StepTables(cos, sin, shift_msa, 1 + scale_msa, gate_msa, shift_mlp, 1 + scale_mlp, gate_mlp)
