"""A vision-language model as a scorer, on a tiny randomly initialised one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import CLIPImageProcessor, CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
from transformers import PreTrainedTokenizerFast as Fast

from imagewright.config.aes import AesConfig
from imagewright.errors import InputError
from imagewright.methods.aesthetic import AestheticMethod, PairBatch
from imagewright.models.aesthetic import AestheticScorer, Calibration, build_network, load_scorer, save_scorer
from imagewright.models.aesthetic_vlm import QUESTION, load_vision_language_scorer, score_words

TEMPLATE = (
    "{% for m in messages %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image> {% else %}{{ c['text'] }} {% endif %}"
    "{% endfor %}{% endfor %}"
)


def write_model(folder: Path, words: list[str]) -> Path:
    """A two-layer language model over a two-layer image encoder, 28 px images in 14 px patches."""
    vocabulary = {word: place for place, word in enumerate(["<pad>", "<unk>", "<image>", *QUESTION.replace(".", " .").split(), *words])}
    inner = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = Whitespace()
    tokenizer = Fast(tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", additional_special_tokens=["<image>"])
    pictures = CLIPImageProcessor(size={"height": 28, "width": 28}, do_center_crop=False)
    processor = LlavaProcessor(
        pictures, tokenizer, patch_size=14, vision_feature_select_strategy="default", num_additional_image_tokens=1, chat_template=TEMPLATE
    )
    text = LlamaConfig(vocab_size=len(vocabulary), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    torch.manual_seed(0)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=vocabulary["<image>"])
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("vlm"), score_words())


def test_score_words_are_the_reports_codes() -> None:
    words = score_words()
    assert len(words) == len(set(words)) == 101
    assert [words[score] for score in (0, 25, 26, 50, 51, 75, 76, 100)] == ["aa", "az", "ca", "cy", "da", "dy", "ea", "ey"]


def test_any_image_text_to_text_model_scores_and_learns_through_the_same_interface(model: Path, tmp_path: Path) -> None:
    config = AesConfig(backbone="vision_language", pretrained=str(model), side_px=28, members=1)
    network = build_network(config)
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 3), dtype=np.uint8)
    scorer = AestheticScorer(network, config, Calibration(), "simulated")
    scores = scorer.score(images)
    assert scores.shape == (3,) and np.ptp(scores) > 0
    tensor = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    batch = PairBatch(tensor[:1], tensor[1:2], torch.tensor([80.0]), torch.tensor([20.0]))
    AestheticMethod(network, config).train_step(batch, 0).losses["scorer"].backward()
    assert any(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in network.parameters())
    save_scorer(scorer, tmp_path / "aes")
    assert np.allclose(load_scorer(tmp_path).score(images), scores, atol=1e-3)


def test_training_lowers_the_loss_of_the_score_bins(model: Path) -> None:
    config = AesConfig(backbone="vision_language", pretrained=str(model), side_px=28, members=1)
    network, rng = build_network(config), np.random.default_rng(0)
    method = AestheticMethod(network, config)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    history = []
    for step in range(25):
        better, worse = (torch.from_numpy(rng.integers(low, low + 80, (4, 3, 28, 28), dtype=np.uint8)) for low in (170, 5))
        found = method.train_step(PairBatch(better, worse, torch.full((4,), 80.0), torch.full((4,), 20.0)), step)
        optimizer.zero_grad()
        found.losses["scorer"].backward()
        optimizer.step()
        history.append(float(found.metrics["aesthetic/bin_loss"]))
    assert np.mean(history[-3:]) < 0.85 * np.mean(history[:3])


def test_model_without_score_tokens_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one token for each of the 101 score words"):
        load_vision_language_scorer(str(write_model(tmp_path, score_words()[:-1])))


def test_missing_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"aes\.pretrained: cannot be loaded"):
        load_vision_language_scorer(str(tmp_path / "nothing"))
