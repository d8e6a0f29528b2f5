"""The optional step after fine-tuning: the enhancer's own samples are rewarded and it learns from them (GRPO), the generator frozen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from imagewright.config.enhancer import PolicyConfig
from imagewright.evaluation.suites import SuitePrompt
from imagewright.losses.policy_gradient import group_advantages, grpo_losses
from imagewright.methods.enhancer import ENHANCER, Exchange, ExchangeBatch, collate
from imagewright.methods.enhancer_reward import Judge, rewards_of
from imagewright.models.language_model import render, user_message
from imagewright.training.method import PlainMethod, StepOutput


@dataclass(frozen=True)
class PromptBatch:
    """Prompts to expand in one step, each in a group of samples."""

    prompts: tuple[SuitePrompt, ...]

    @property
    def num_samples(self) -> int:
        """Prompts."""
        return len(self.prompts)

    @property
    def num_tokens(self) -> int:
        """Characters stand in for tokens that are not sampled yet."""
        return sum(len(prompt.text) for prompt in self.prompts)


class PromptSource:
    """Endless shuffled prompts; the order depends on seed and epoch only."""

    def __init__(self, prompts: Sequence[SuitePrompt], per_step: int, seed: int) -> None:
        assert prompts, "the policy step needs a prompt"
        self.prompts, self.per_step, self.seed, self.position = prompts, per_step, seed, 0

    def next_step(self) -> list[PromptBatch]:
        """The next prompts as one micro-batch."""
        chosen = []
        for position in range(self.position, self.position + self.per_step):
            epoch, place = divmod(position, len(self.prompts))
            order = np.random.default_rng((self.seed, epoch)).permutation(len(self.prompts))
            chosen.append(self.prompts[int(order[place])])
        self.position += self.per_step
        return [PromptBatch(tuple(chosen))]

    def state(self) -> dict[str, int]:
        """Prompts handed out."""
        return {"position": self.position}

    def load_state(self, state: dict[str, int]) -> None:
        """Continues from a position."""
        self.position = state["position"]


class EnhancerPolicyMethod(PlainMethod):
    """GRPO with one update per batch of samples."""

    def __init__(
        self, model: Any, reference: Any, tokenizer: Any, config: PolicyConfig, size_px: tuple[int, int], judge: Judge | None, seed: int
    ) -> None:
        """reference: a frozen copy of the model as it was before the step. judge: None rewards the text alone."""
        self.model, self.reference, self.tokenizer = model, reference, tokenizer
        self.config, self.size_px, self.judge, self.seed = config, size_px, judge, seed

    def networks(self) -> dict[str, nn.Module]:
        """The language model."""
        return {ENHANCER: self.model}

    def train_step(self, batch: PromptBatch, step: int) -> StepOutput:
        """Samples a group for every prompt, rewards it, and takes the loss of the samples' own tokens."""
        prompts = [prompt for prompt in batch.prompts for _ in range(self.config.group_size)]
        exchanges = self.sample(prompts, step)
        texts = [
            str(self.tokenizer.decode(exchange.ids[exchange.prompt_length :], skip_special_tokens=True)).strip() for exchange in exchanges
        ]
        rewards = rewards_of(prompts, texts, self.config, self.judge)
        totals = torch.tensor([reward.total for reward in rewards]).view(-1, self.config.group_size)
        padded = collate(exchanges, int(self.tokenizer.pad_token_id))
        current, mask = token_log_probs(self.model, padded)
        with torch.no_grad():
            reference, _ = token_log_probs(self.reference, padded)
        advantages = group_advantages(totals).flatten().to(current.device)
        losses, divergence = grpo_losses(current, current.detach(), reference, advantages, mask, self.config.clip, self.config.kl_weight)
        metrics = {"enhancer/policy_reward": float(totals.mean()), "enhancer/policy_kl": float(divergence.detach().mean())}
        for name in rewards[0].parts:
            metrics[f"enhancer/policy_{name}"] = sum(reward.parts[name] for reward in rewards) / len(rewards)
        return StepOutput({ENHANCER: losses.mean()}, metrics)

    @torch.no_grad()
    def sample(self, prompts: Sequence[SuitePrompt], step: int) -> list[Exchange]:
        """One sampled answer per prompt, with the end token where it was drawn; the same in every run of a step."""
        texts = [render(self.tokenizer, user_message(prompt.text, *self.size_px)) for prompt in prompts]
        inputs = self.tokenizer(texts, return_tensors="pt", padding=True, padding_side="left", verbose=False).to(self.model.device)
        training = self.model.training
        self.model.eval()
        with torch.random.fork_rng():
            torch.manual_seed(self.seed + step)
            drawn = self.model.generate(
                **inputs,
                max_new_tokens=self.config.max_new_tokens,
                do_sample=True,
                temperature=self.config.temperature,
                top_k=0,
                top_p=1.0,
                pad_token_id=self.tokenizer.pad_token_id,
                eos_token_id=self.tokenizer.eos_token_id,
            )
        self.model.train(training)
        start = inputs["input_ids"].shape[1]
        return [
            Exchange((*ids[keep.bool()].tolist(), *answer_ids(row[start:].tolist(), int(self.tokenizer.eos_token_id))), int(keep.sum()))
            for ids, keep, row in zip(inputs["input_ids"].cpu(), inputs["attention_mask"].cpu(), drawn.cpu(), strict=True)
        ]


def answer_ids(ids: list[int], end: int) -> list[int]:
    """Tokens up to and with the first end token; what follows is padding."""
    return ids[: ids.index(end) + 1] if end in ids else ids


def token_log_probs(model: Any, batch: ExchangeBatch) -> tuple[Tensor, Tensor]:
    """Log-probability of every token after the first, and which of them are the answer's: [B, T - 1] each."""
    ids, mask, is_answer = (tensor.to(model.device) for tensor in (batch.ids, batch.mask, batch.is_answer))
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
    chosen = logits.log_softmax(dim=-1).gather(2, ids[:, 1:, None]).squeeze(2)
    return chosen, is_answer[:, 1:]
