"""What someone who conditions on prompts sees from `models/text_encoder.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

from imagewright.config.text_encoder import TextEncoderConfig
from imagewright.models.text_encoder import TextEncoderError, TransformersTextEncoder, load_text_encoder


@pytest.fixture(scope="module")
def minilm() -> TransformersTextEncoder:
    return load_text_encoder(TextEncoderConfig())


@pytest.fixture(scope="module")
def causal_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer causal model whose tokenizer drops BOS."""
    folder = tmp_path_factory.mktemp("causal")
    words = {"<s>": 0, "<unk>": 1, "red": 2, "circle": 3, "blue": 4}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8, hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=2
    )
    LlamaModel(config).save_pretrained(folder)
    return folder


def test_minilm_gives_unpadded_states_of_its_own_width(minilm: TransformersTextEncoder) -> None:
    short, long = minilm.encode(["a red circle", "a red circle to the left of a blue square"])
    assert short.shape == (5, 384)
    assert long.shape[0] > short.shape[0]
    assert minilm.class_name == "BertModel"
    assert len(minilm.digest) == 64


def test_prompt_is_the_same_alone_and_in_company(minilm: TransformersTextEncoder) -> None:
    (alone,) = minilm.encode(["a red circle"])
    together = minilm.encode(["a blue star", "a red circle", "two green crosses on a white background", "a red circle"])
    torch.testing.assert_close(together[1], alone, atol=1e-5, rtol=1e-5)
    assert torch.equal(together[1], together[3])


def test_prompts_are_cut_to_the_cap(minilm: TransformersTextEncoder) -> None:
    (states,) = minilm.encode(["star " * 100])
    assert states.shape == (32, 384)


def test_empty_prompt_has_its_special_tokens_only(minilm: TransformersTextEncoder) -> None:
    (states,) = minilm.encode([""])
    assert states.shape == (2, 384)
    assert states.abs().sum() > 0


def test_causal_model_gets_its_bos_back(causal_folder: Path) -> None:
    encoder = load_text_encoder(TextEncoderConfig(kind="transformers", source=str(causal_folder), max_tokens=3))
    assert encoder.token_ids("red circle") == [0, 2, 3]
    assert encoder.token_ids("") == [0]
    assert encoder.token_ids("red circle blue blue") == [0, 2, 3]


def test_states_come_from_the_layer_before_the_last(causal_folder: Path) -> None:
    encoder = load_text_encoder(TextEncoderConfig(kind="transformers", source=str(causal_folder)))
    (states,) = encoder.encode(["red circle"])
    every = encoder.model(input_ids=torch.tensor([[0, 2, 3]]), output_hidden_states=True).hidden_states
    torch.testing.assert_close(states, every[2][0])
    assert len(every) == 4


def test_digest_follows_the_weights(causal_folder: Path) -> None:
    config = TextEncoderConfig(kind="transformers", source=str(causal_folder))
    assert load_text_encoder(config).digest == load_text_encoder(config).digest != load_text_encoder(TextEncoderConfig()).digest


def test_layer_outside_the_model_is_refused(causal_folder: Path) -> None:
    load_text_encoder(TextEncoderConfig(kind="transformers", source=str(causal_folder), layer=-4))
    with pytest.raises(TextEncoderError, match=r"text_encoder\.layer"):
        load_text_encoder(TextEncoderConfig(kind="transformers", source=str(causal_folder), layer=-5))


def test_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TextEncoderError, match=r"text_encoder\.source: cannot be loaded"):
        load_text_encoder(TextEncoderConfig(kind="transformers", source=str(tmp_path)))


def test_overlong_prompt_is_refused(minilm: TransformersTextEncoder) -> None:
    with pytest.raises(TextEncoderError, match="shorter than 100000"):
        minilm.encode(["x" * 100_001])


def test_configuration_refuses_a_source_that_would_be_ignored() -> None:
    with pytest.raises(ValueError, match="source must be empty"):
        TextEncoderConfig(source="somewhere")
    with pytest.raises(ValueError, match="source must name"):
        TextEncoderConfig(kind="transformers")
