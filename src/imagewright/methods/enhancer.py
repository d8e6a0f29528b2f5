"""Supervised fine-tuning of the prompt enhancer: cross-entropy on the assistant's tokens only, full weights or LoRA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn import functional

from imagewright.config.enhancer import EnhancerConfig
from imagewright.curation.enhancer_pairs import PromptPair
from imagewright.models.language_model import encode_exchange, user_message
from imagewright.training.method import PlainMethod, StepOutput

ENHANCER = "enhancer"
ADAPTER = "enhancer"
SCALE = 2.0
WINDOW_BATCHES = 16


@dataclass(frozen=True)
class Exchange:
    """One tokenised pair: the answer, end token included, starts at `prompt_length`."""

    ids: tuple[int, ...]
    prompt_length: int


@dataclass(frozen=True)
class ExchangeBatch:
    """Exchanges padded on the right. ids, mask, is_answer: [B, T]."""

    ids: Tensor
    mask: Tensor
    is_answer: Tensor

    @property
    def num_samples(self) -> int:
        """Exchanges."""
        return len(self.ids)

    @property
    def num_tokens(self) -> int:
        """Tokens without padding."""
        return int(self.mask.sum())


class ExchangeSource:
    """Endless shuffled batches of similar length; the order depends on seed and epoch only, so a position is enough to go on."""

    def __init__(self, exchanges: Sequence[Exchange], batch_size: int, pad_id: int, seed: int) -> None:
        assert exchanges, "training needs a pair"
        self.exchanges, self.batch_size, self.pad_id, self.seed = exchanges, batch_size, pad_id, seed
        self.position = 0
        self.epoch, self.order = -1, np.zeros(0, dtype=np.int64)

    def next_step(self) -> list[ExchangeBatch]:
        """The next `batch_size` exchanges as one micro-batch."""
        chosen = [self.exchanges[self.index_of(self.position + offset)] for offset in range(self.batch_size)]
        self.position += self.batch_size
        return [collate(chosen, self.pad_id)]

    def index_of(self, position: int) -> int:
        """Which exchange stands at an endless position."""
        epoch, place = divmod(position, len(self.exchanges))
        if epoch != self.epoch:
            self.epoch, self.order = epoch, self.order_of(epoch)
        return int(self.order[place])

    def order_of(self, epoch: int) -> NDArray[np.int64]:
        """A permutation whose batches pad little: windows of it are sorted by length, then their batches shuffled."""
        rng = np.random.default_rng((self.seed, epoch))
        lengths = np.array([len(exchange.ids) for exchange in self.exchanges])
        order, batches = rng.permutation(len(lengths)), []
        for start in range(0, len(order), WINDOW_BATCHES * self.batch_size):
            window = order[start : start + WINDOW_BATCHES * self.batch_size]
            window = window[np.argsort(lengths[window], kind="stable")]
            cut = [window[at : at + self.batch_size] for at in range(0, len(window), self.batch_size)]
            batches += [cut[at] for at in rng.permutation(len(cut))]
        return np.concatenate(batches)

    def state(self) -> dict[str, int]:
        """Exchanges handed out."""
        return {"position": self.position}

    def load_state(self, state: dict[str, int]) -> None:
        """Continues from a position."""
        self.position = state["position"]


class EnhancerMethod(PlainMethod):
    """Language-model loss of the answers."""

    def __init__(self, model: Any, validation: Sequence[ExchangeBatch], device: torch.device) -> None:
        self.model, self.validation, self.device = model, validation, device

    def networks(self) -> dict[str, nn.Module]:
        """The language model; with adapters only they are trained."""
        return {ENHANCER: self.model}

    def train_step(self, batch: ExchangeBatch, step: int) -> StepOutput:
        """Mean over exchanges of the mean over answer tokens."""
        losses, correct = answer_losses(self.model, batch, self.device)
        return StepOutput({ENHANCER: losses.mean()}, {"enhancer/token_accuracy": correct.mean()})

    def validate(self, step: int) -> dict[str, float]:
        """Loss and token accuracy on held-out pairs."""
        if not self.validation:
            return {}
        found = [answer_losses(self.model, batch, self.device) for batch in self.validation]
        losses, correct = (torch.cat(parts).double() for parts in zip(*found, strict=True))
        return {"validation/loss": float(losses.detach().mean()), "enhancer/validation_token_accuracy": float(correct.mean())}


def tokenize_pairs(pairs: Sequence[PromptPair], tokenizer: Any, config: EnhancerConfig) -> list[Exchange]:
    """Exchanges whose prompt and answer fit the configured bounds."""
    found = []
    for pair in pairs:
        ids, length = encode_exchange(tokenizer, user_message(pair.prompt, pair.width, pair.height), pair.caption)
        if length <= config.max_prompt_tokens and len(ids) - length <= config.max_new_tokens:
            found.append(Exchange(tuple(ids), length))
    return found


def collate(exchanges: Sequence[Exchange], pad_id: int) -> ExchangeBatch:
    """Pads on the right to the longest exchange."""
    longest = max(len(exchange.ids) for exchange in exchanges)
    ids = torch.full((len(exchanges), longest), pad_id)
    mask, is_answer = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    for row, exchange in enumerate(exchanges):
        ids[row, : len(exchange.ids)] = torch.tensor(exchange.ids)
        mask[row, : len(exchange.ids)] = 1
        is_answer[row, exchange.prompt_length : len(exchange.ids)] = True
    return ExchangeBatch(ids, mask, is_answer)


def answer_losses(model: Any, batch: ExchangeBatch, device: torch.device) -> tuple[Tensor, Tensor]:
    """Per exchange, the mean negative log-likelihood of its answer tokens and the share predicted rightly: [B], [B].

    Logits are computed where an answer token is predicted and nowhere else: the vocabulary projection is a fifth of a small model.
    """
    ids, mask, is_answer = batch.ids.to(device), batch.mask.to(device), batch.is_answer.to(device)
    hidden = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
    predicts = is_answer[:, 1:]
    logits = model.get_output_embeddings()(hidden[:, :-1][predicts]).float()
    targets = ids[:, 1:][predicts]
    losses = functional.cross_entropy(logits, targets, reduction="none")
    correct = (logits.argmax(dim=-1) == targets).float()
    rows = predicts.nonzero()[:, 0]
    counts = predicts.sum(dim=1).clamp(min=1)
    zeros = torch.zeros(len(ids), device=device)
    return zeros.index_add(0, rows, losses) / counts, zeros.index_add(0, rows, correct) / counts


def adapt(model: Any, config: EnhancerConfig, seed: int) -> None:
    """Prepares what is trained: every weight, or fresh adapters on the projections of the last layers with all else frozen."""
    if config.adapt == "full":
        model.requires_grad_(True)
        return
    depth = int(model.config.num_hidden_layers)
    first = depth - config.lora_layers if 0 < config.lora_layers < depth else 0
    numbers = "|".join(str(number) for number in range(first, depth))
    lora = LoraConfig(r=config.lora_rank, lora_alpha=int(SCALE * config.lora_rank), target_modules=rf".*layers\.({numbers})\..*_proj")
    model.requires_grad_(False)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inject_adapter_in_model(lora, model, adapter_name=ADAPTER)


def merge_adapters(model: nn.Module) -> None:
    """Adds adapters into the weights and takes them off, so that a plain model is saved."""
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]
    for name, layer in layers:
        layer.merge()
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, layer.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config
