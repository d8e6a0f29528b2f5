"""Loss counts the assistant's tokens only; adapters leave the rest alone and disappear when merged; a resumed order is the same order."""

from __future__ import annotations

import pytest
import torch

from imagewright.config.enhancer import EnhancerConfig
from imagewright.curation.enhancer_pairs import PromptPair
from imagewright.methods.enhancer import EnhancerMethod, ExchangeSource, adapt, answer_losses, collate, merge_adapters, tokenize_pairs
from imagewright.models.language_model import LanguageModel, load_language_model

CPU = torch.device("cpu")
CONFIG = EnhancerConfig(max_new_tokens=40, lora_rank=4)
PAIRS = [
    PromptPair(f"s{number}", prompt, caption, "original", 32, 32)
    for number, (prompt, caption) in enumerate([("a dot", "a red dot on white"), ("star", "one star"), ("sun", "a large sun in the sky")])
]


@pytest.fixture
def tiny() -> LanguageModel:
    torch.manual_seed(0)
    return load_language_model(CONFIG)


def test_the_loss_is_that_of_the_answers_tokens_alone(tiny: LanguageModel) -> None:
    exchanges = tokenize_pairs(PAIRS, tiny.tokenizer, CONFIG)
    losses, _ = answer_losses(tiny.model, collate(exchanges, 1), CPU)
    for exchange, loss in zip(exchanges, losses, strict=True):
        labels = torch.tensor([exchange.ids])
        labels[:, : exchange.prompt_length] = -100
        expected = tiny.model(torch.tensor([exchange.ids]), labels=labels).loss
        torch.testing.assert_close(loss, expected)


def test_a_caption_that_is_too_long_for_the_bound_is_left_out(tiny: LanguageModel) -> None:
    tokens = len("a red dot on white") + 1
    assert len(tokenize_pairs(PAIRS[:1], tiny.tokenizer, CONFIG.model_copy(update={"max_new_tokens": tokens}))) == 1
    assert tokenize_pairs(PAIRS[:1], tiny.tokenizer, CONFIG.model_copy(update={"max_new_tokens": tokens - 1})) == []


def test_only_adapters_of_the_last_layers_are_trained_and_merging_keeps_the_outputs(tiny: LanguageModel) -> None:
    exchanges = tokenize_pairs(PAIRS, tiny.tokenizer, CONFIG)
    before = {name: value.clone() for name, value in tiny.model.state_dict().items()}
    adapt(tiny.model, CONFIG.model_copy(update={"lora_layers": 1}), 0)
    trained = {name: parameter for name, parameter in tiny.model.named_parameters() if parameter.requires_grad}
    assert trained
    assert all("lora_" in name and "layers.1." in name for name in trained)
    method = EnhancerMethod(tiny.model, [collate(exchanges, 1)], CPU)
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-2)
    start = method.validate(0)["validation/loss"]
    for step in range(10):
        method.train_step(collate(exchanges, 1), step).losses["enhancer"].backward()
        optimizer.step()
        optimizer.zero_grad()
    tuned = method.validate(10)["validation/loss"]
    assert tuned < start
    merge_adapters(tiny.model)
    assert set(tiny.model.state_dict()) == set(before)
    assert method.validate(10)["validation/loss"] == pytest.approx(tuned, rel=1e-5)
    changed = {name for name, value in tiny.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all("layers.1." in name for name in changed)


def test_every_exchange_comes_once_an_epoch_and_a_position_goes_on_from_there(tiny: LanguageModel) -> None:
    exchanges = tokenize_pairs(PAIRS, tiny.tokenizer, CONFIG)
    source = ExchangeSource(exchanges, 3, 1, 0)
    assert sorted(map(tuple, source.next_step()[0].ids.tolist())) == sorted(map(tuple, collate(exchanges, 1).ids.tolist()))
    position = source.state()
    following = source.next_step()[0].ids
    resumed = ExchangeSource(exchanges, 3, 1, 0)
    resumed.load_state(position)
    assert torch.equal(resumed.next_step()[0].ids, following)
