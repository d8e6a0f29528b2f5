"""The gradients and turns of distribution matching, on a real student, fake score and committee."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from distill_cases import CONFIG, random_adapter, random_model
from pretrain_cases import write_latents

from imagewright.config.distill import DistillConfig, RoutingRule
from imagewright.data.latents import LatentsDataset
from imagewright.data.prompt_loader import PromptBatch, PromptLoader, TurnCounter
from imagewright.diffusion.flow_matching import recover_x0
from imagewright.diffusion.guidance import guide
from imagewright.losses.distribution_matching import normaliser
from imagewright.methods.committee import AdapterTeacher, BaseTeacher, Committee, SingleTeacher
from imagewright.methods.folding import FoldingMethod, generator_of, with_prompt
from imagewright.methods.mt_dmd import FAKE, MtDmdMethod, StudentGradients
from imagewright.methods.routing import RuleTable
from imagewright.models.packing import Pack

DOMAINS = ("c0", "c1")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> LatentsDataset:
    return LatentsDataset(write_latents(tmp_path_factory.mktemp("latents"), num=8))


def changed(**matching: object) -> DistillConfig:
    return CONFIG.model_copy(update={"matching": CONFIG.matching.model_copy(update=matching)})


def single(config: DistillConfig, dataset: LatentsDataset, *, fake_seed: int = 0) -> tuple[MtDmdMethod, PromptLoader]:
    """One teacher; the fake score equals it for fake_seed 0."""
    counter = TurnCounter(config.matching.critic_updates_per_student + 1)
    loader = PromptLoader(dataset, counter, count=config.prompts_per_round, seed=0)
    committee = SingleTeacher(BaseTeacher(random_model(0)), DOMAINS)
    return MtDmdMethod(random_model(1), random_model(fake_seed), committee, dataset.empty_prompt, config, counter, seed=0), loader


def gradients(method: MtDmdMethod, batch: PromptBatch) -> StudentGradients:
    rollout = method.trajectory(batch)
    steps = torch.zeros(batch.num_samples, dtype=torch.int64)
    generator = generator_of(0, "test", batch)
    return method.gradients(rollout.at(steps), rollout.clean_at(steps), rollout.sigmas[steps], batch.domains, generator)


def largest(parts: list[torch.Tensor]) -> float:
    return max(float(part.abs().max()) for part in parts)


def test_the_dm_gradient_is_zero_exactly_when_the_fake_score_equals_the_teacher(dataset: LatentsDataset) -> None:
    same, loader = single(CONFIG, dataset)
    batch = loader.next_step()[0]
    assert largest(gradients(same, batch).dm) == 0.0
    assert largest(gradients(single(CONFIG, dataset, fake_seed=2)[0], batch).dm) > 0.0


def test_the_ca_gradient_is_zero_iff_alpha_is_one_or_the_prompt_says_nothing(dataset: LatentsDataset) -> None:
    for scale, zero in ((1.0, True), (1.01, False), (4.0, False)):
        method, loader = single(CONFIG.model_copy(update={"guidance_scale": scale}), dataset)
        batch = loader.next_step()[0]
        assert (largest(gradients(method, batch).ca) == 0.0) is zero
    method.empty_prompt = batch.prompt_embeds[0]
    alike = PromptBatch([batch.prompt_embeds[0]] * 3, batch.sizes, batch.domains, batch.noise_seeds, 7, 0)
    assert largest(gradients(method, alike).ca) < 1e-4


def test_every_round_trains_the_fake_score_five_times_and_the_student_once_on_one_rollout(dataset: LatentsDataset) -> None:
    method, loader = single(changed(critic_updates_per_student=5), dataset)
    trained, rollouts = [], set()
    for step in range(18):
        batch = loader.next_step()[0]
        rollout = method.trajectory(batch)
        rollouts.add(id(rollout.states.untyped_storage()))
        output = method.train_step(batch, step)
        trained.append(next(iter(output.losses)))
        if trained[-1] == "student":
            rollouts.clear()
        else:
            assert len(rollouts) == 1
    assert trained == (["fake"] * 5 + ["student"]) * 3
    assert (method.student_updates, method.critic_updates) == (3, 15)


def test_a_step_touches_only_the_network_whose_turn_it_is(dataset: LatentsDataset) -> None:
    method, loader = single(changed(critic_updates_per_student=1), dataset, fake_seed=2)
    for network, other in ((method.fake, method.student), (method.student, method.fake)):
        output = method.train_step(loader.next_step()[0], 0)
        next(iter(output.losses.values())).backward()
        assert any(parameter.grad is not None for parameter in network.parameters())
        assert all(parameter.grad is None for parameter in other.parameters())
        network.zero_grad()


def test_a_fake_score_on_the_teachers_base_trains_only_its_adapter(dataset: LatentsDataset) -> None:
    base = random_model(0)
    for number, domain in enumerate(DOMAINS):
        random_adapter(base, domain, number + 1)
    teachers = {domain: AdapterTeacher(base, domain) for domain in DOMAINS}
    committee = Committee(teachers, RuleTable([RoutingRule()], list(DOMAINS), DOMAINS, {name: name for name in DOMAINS}), DOMAINS)
    random_adapter(base, FAKE, 9)
    config = changed(fake="lora", critic_updates_per_student=1, dynamic_guidance_start=0.5, dynamic_guidance_rounds=4)
    counter = TurnCounter(2)
    loader = PromptLoader(dataset, counter, count=3, seed=0)
    method = MtDmdMethod(random_model(1), base, committee, dataset.empty_prompt, config, counter, seed=0)
    for step in range(4):
        output = method.train_step(loader.next_step()[0], step)
        next(iter(output.losses.values())).backward()
    touched = {name for name, parameter in base.named_parameters() if parameter.grad is not None}
    assert touched
    assert all(f".{FAKE}." in name for name in touched)


def test_ca_asks_below_the_student_s_level_and_dm_over_the_whole_range(dataset: LatentsDataset) -> None:
    method, _ = single(CONFIG, dataset)
    generator = torch.Generator().manual_seed(0)
    levels = torch.tensor([1.0, 0.5, 0.01]).repeat(200)
    drawn = method.ca_levels(levels, generator)
    assert bool((drawn <= levels).all())
    assert float(drawn.min()) >= 0.0099999
    wide = method.dm_levels(600, generator)
    assert float(wide.min()) >= CONFIG.matching.dm_low
    assert float(wide.max()) <= CONFIG.matching.dm_high
    assert float(wide.min()) < 0.1
    assert float(wide.max()) > 0.9


def test_folding_lowers_the_distance_to_the_guided_teacher(dataset: LatentsDataset) -> None:
    counter = TurnCounter(1)
    loader = PromptLoader(dataset, counter, count=3, seed=0)
    student = random_model(1)
    method = FoldingMethod(student, SingleTeacher(BaseTeacher(random_model(0)), DOMAINS), dataset.empty_prompt, CONFIG, counter, seed=0)
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    losses = []
    for step in range(60):
        loss = method.train_step(loader.next_step()[0], step).losses["student"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


def test_without_guidance_a_student_equal_to_its_teacher_has_nothing_to_fold(dataset: LatentsDataset, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"guidance_scale": 1.0})
    loader = PromptLoader(dataset, TurnCounter(1), count=3, seed=0)
    method = FoldingMethod(
        random_model(0), SingleTeacher(BaseTeacher(random_model(0)), DOMAINS), dataset.empty_prompt, config, TurnCounter(1), seed=0
    )
    assert float(method.train_step(loader.next_step()[0], 0).losses["student"]) < 1e-8


def test_shared_renoising_gives_the_coupled_guided_gradient(dataset: LatentsDataset) -> None:
    method, loader = single(changed(renoising="shared"), dataset, fake_seed=2)
    batch = loader.next_step()[0]
    found = gradients(method, batch)
    rollout, generator = method.trajectory(batch), generator_of(0, "test", batch)
    clean = rollout.clean_at(torch.zeros(batch.num_samples, dtype=torch.int64))
    noised, _ = method.renoise(rollout.pack, clean, method.dm_levels(batch.num_samples, generator), generator)
    conditional, unconditional = method.committee.clean_pair(noised, with_prompt(noised, method.empty_prompt), batch.domains, "CA")
    guided = guide(conditional, unconditional, CONFIG.guidance_scale)
    fake = recover_x0(noised.image_tokens, method.fake(noised), noised.spread(noised.timesteps / 1000))
    for dm, ca, sample, real, wrong in zip(found.dm, found.ca, *(noised.unpack(part) for part in (clean, guided, fake)), strict=True):
        torch.testing.assert_close(dm + ca, (wrong - real) / normaliser(sample, real), rtol=1e-4, atol=1e-4)


def test_matching_samples_asks_about_the_end_of_the_trajectory_and_trains_the_step(dataset: LatentsDataset) -> None:
    method, loader = single(changed(critic_updates_per_student=1), dataset, fake_seed=2)
    seen = []
    real_gradients = method.gradients

    def spy(pack: Pack, clean: torch.Tensor, *rest: Any) -> StudentGradients:
        seen.append(clean)
        return real_gradients(pack, clean, *rest)

    method.gradients = spy  # type: ignore[method-assign]
    loader.next_step()
    batch = loader.next_step()[0]
    final = method.trajectory(batch).final
    output = method.student_step(batch)
    torch.testing.assert_close(seen[0], final)
    output.losses["student"].backward()
    assert all(parameter.grad is not None for parameter in method.student.parameters())


def test_rollouts_take_the_configured_steps_in_turn(dataset: LatentsDataset) -> None:
    method, loader = single(changed(critic_updates_per_student=1, rollout_steps=(4, 2)), dataset)
    lengths = []
    for step in range(8):
        batch = loader.next_step()[0]
        lengths.append(len(method.trajectory(batch).states))
        method.train_step(batch, step)
    assert sorted(lengths[:4]) == [2, 2, 4, 4]
    assert lengths[:4] == lengths[4:]
