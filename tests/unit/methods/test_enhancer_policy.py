"""The policy step samples, rewards and learns: what is rewarded becomes more frequent, and the same step draws the same samples."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch

from imagewright.config.enhancer import EnhancerConfig, PolicyConfig
from imagewright.evaluation.scene_judge import ScenePrompt
from imagewright.evaluation.suites import SuitePrompt
from imagewright.methods import enhancer_policy
from imagewright.methods.enhancer_policy import EnhancerPolicyMethod, PromptSource, answer_ids
from imagewright.methods.enhancer_reward import Reward, rewards_of, text_parts
from imagewright.models.language_model import LanguageModel, load_language_model

SAID = ScenePrompt("single_object", (("circle", None),))
PROMPTS = [SuitePrompt(f"p{number}", "train", "single_object", text, SAID) for number, text in enumerate(("a circle", "one circle"))]
POLICY = PolicyConfig(steps=1, prompts_per_step=2, group_size=8, max_new_tokens=8, kl_weight=0.0, wanted_words=8)


def tiny() -> LanguageModel:
    torch.manual_seed(0)
    return load_language_model(EnhancerConfig(max_new_tokens=8))


def method_of(language_model: LanguageModel) -> EnhancerPolicyMethod:
    reference = copy.deepcopy(language_model.model).eval().requires_grad_(False)
    return EnhancerPolicyMethod(language_model.model, reference, language_model.tokenizer, POLICY, (32, 32), None, 7)


def test_the_reward_rises(monkeypatch: object) -> None:
    language_model = tiny()
    method = method_of(language_model)
    source = PromptSource(PROMPTS, 2, 0)
    optimizer = torch.optim.AdamW(language_model.model.parameters(), lr=3e-3)
    seen: list[float] = []

    def letters(prompts: Sequence[SuitePrompt], texts: Sequence[str], config: PolicyConfig, judge: object) -> list[Reward]:
        shares = [sum(letter in "abcdefghijklm" for letter in text) / 8 for text in texts]
        seen.append(sum(shares) / len(shares))
        return [Reward(share, {"letters": share}) for share in shares]

    monkeypatch.setattr(enhancer_policy, "rewards_of", letters)  # type: ignore[attr-defined]
    for step in range(25):
        output = method.train_step(source.next_step()[0], step)
        output.losses["enhancer"].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert sum(seen[-5:]) > 2 * sum(seen[:5])


def test_the_same_step_draws_the_same_samples_and_leaves_the_global_generator_alone() -> None:
    language_model = tiny()
    method = method_of(language_model)
    before = torch.random.get_rng_state()
    first, again, other = method.sample(PROMPTS, 3), method.sample(PROMPTS, 3), method.sample(PROMPTS, 4)
    assert first == again != other
    assert torch.equal(before, torch.random.get_rng_state())


def test_an_answer_ends_with_its_first_end_token() -> None:
    assert answer_ids([5, 1, 1, 1], 1) == [5, 1]
    assert answer_ids([5, 6], 1) == [5, 6]


def test_prompts_go_on_from_a_position() -> None:
    source = PromptSource(PROMPTS, 1, 0)
    source.next_step()
    resumed = PromptSource(PROMPTS, 1, 0)
    resumed.load_state(source.state())
    assert resumed.next_step() == source.next_step()


def test_a_lost_colour_costs_a_third_and_a_lost_text_its_own_part() -> None:
    assert text_parts("a red circle", "a circle", POLICY)["attributes"] < 1.0
    sign = text_parts("sign saying “GO”", "a sign saying “NO”", POLICY)
    assert (sign["text"], text_parts("sign saying “GO”", "a sign saying “GO”", POLICY)["text"]) == (0.0, 1.0)


def test_length_is_full_at_the_wanted_number_of_words_and_nothing_at_twice_that() -> None:
    assert text_parts("a", "a " * 8, POLICY)["length"] == 1.0
    assert text_parts("a", "a " * 16, POLICY)["length"] == 0.0


def test_judged_pictures_count_beside_the_text() -> None:
    def judge(prompts: Sequence[SuitePrompt], texts: Sequence[str]) -> list[dict[str, float]]:
        return [{"judged": 0.0} for _ in texts]

    text = ["a circle"]
    plain, judged = rewards_of(PROMPTS[:1], text, POLICY, None)[0], rewards_of(PROMPTS[:1], text, POLICY, judge)[0]
    assert judged.total < plain.total
    assert set(judged.parts) == {*plain.parts, "judged"}
