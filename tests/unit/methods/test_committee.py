"""What a committee says: as one voice in clean-sample space, at one pass for hard routing, and only with weights that are weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from distill_cases import random_adapter, random_model, random_pack, write_payload
from torch import Tensor

from imagewright.config.distill import RoutingRule
from imagewright.diffusion.flow_matching import recover_x0
from imagewright.methods.committee import AdapterTeacher, BaseTeacher, Committee, CommitteeError, SingleTeacher, load_teachers, read_gains
from imagewright.methods.routing import Query, RoutingError, RuleTable
from imagewright.models.adapters import activate, attach
from imagewright.models.diffusers_adapter import load_transformer
from imagewright.models.packing import Pack, take_samples

DOMAINS = ("c0", "c1")


class Fixed:
    """A router that always answers the same row."""

    def __init__(self, row: Sequence[float]) -> None:
        self.row = torch.tensor([list(row)])

    def weights(self, query: Query) -> Tensor:
        return self.row.expand(len(query.sigmas), -1)


def experts(*seeds: int) -> dict[str, AdapterTeacher]:
    base = random_model()
    for number, seed in enumerate(seeds):
        random_adapter(base, f"c{number}", seed)
    return {f"c{number}": AdapterTeacher(base, f"c{number}") for number in range(len(seeds))}


@torch.no_grad()
def clean_of(teacher: AdapterTeacher, pack: Pack) -> Tensor:
    return recover_x0(pack.image_tokens, teacher(pack), pack.spread(pack.timesteps / 1000.0))


@pytest.mark.parametrize("row", [(0.5, 0.5), (0.25, 0.75), (1.0, 0.0)])
def test_identical_experts_equal_the_single_teacher(row: tuple[float, float]) -> None:
    teachers = experts(1, 1)
    pack, domains = random_pack()
    single = SingleTeacher(teachers["c0"], DOMAINS).clean(pack, domains, "DM")
    torch.testing.assert_close(Committee(teachers, Fixed(row), DOMAINS).clean(pack, domains, "DM"), single)


@pytest.mark.parametrize("chosen", [0, 1])
def test_a_one_hot_weight_equals_that_expert_bit_for_bit(chosen: int) -> None:
    teachers = experts(1, 2)
    pack, domains = random_pack()
    said = Committee(teachers, Fixed([float(number == chosen) for number in range(2)]), DOMAINS).clean(pack, domains, "CA")
    assert torch.equal(said, clean_of(teachers[f"c{chosen}"], pack))
    assert not torch.equal(said, clean_of(teachers[f"c{1 - chosen}"], pack))


def test_shares_are_weighted_in_clean_sample_space() -> None:
    teachers = experts(1, 2)
    pack, domains = random_pack()
    said = Committee(teachers, Fixed([0.3, 0.7]), DOMAINS).clean(pack, domains, "CA")
    torch.testing.assert_close(said, 0.3 * clean_of(teachers["c0"], pack) + 0.7 * clean_of(teachers["c1"], pack))


def test_hard_routing_asks_each_sample_s_own_expert_and_costs_one_pass() -> None:
    teachers = experts(1, 2)
    pack, domains = random_pack()
    committee = Committee(teachers, RuleTable([RoutingRule()], list(teachers), DOMAINS, {"c0": "c0", "c1": "c1"}), DOMAINS)
    said = pack.unpack(committee.clean(pack, domains, "DM"))
    assert committee.tokens == pack.num_tokens
    for index, domain in enumerate(domains):
        alone = take_samples(pack, [index])
        torch.testing.assert_close(said[index], alone.unpack(clean_of(teachers[domain], alone))[0], rtol=1e-4, atol=1e-5)


def test_the_two_objectives_may_ask_different_experts_for_one_sample() -> None:
    teachers = experts(1, 2)
    pack, domains = random_pack()
    rules = [RoutingRule(objective="CA", expert="c0"), RoutingRule(objective="DM", expert="c1")]
    committee = Committee(teachers, RuleTable(rules, list(teachers), DOMAINS, {}), DOMAINS)
    torch.testing.assert_close(committee.clean(pack, domains, "CA"), clean_of(teachers["c0"], pack))
    torch.testing.assert_close(committee.clean(pack, domains, "DM"), clean_of(teachers["c1"], pack))
    table = committee.table()
    assert {name for row in table["c0"]["CA"].values() for name in row} == {"c0"}
    assert sum(count for objective in table.values() for row in objective["DM"].values() for count in row.values()) == len(pack)


def test_the_empty_prompt_is_answered_by_the_same_experts_in_the_same_pass() -> None:
    teachers = experts(1, 2)
    pack, domains = random_pack()
    committee = Committee(teachers, RuleTable([RoutingRule()], list(teachers), DOMAINS, {"c0": "c0", "c1": "c1"}), DOMAINS)
    conditional, unconditional = committee.clean_pair(pack, pack, domains, "CA")
    torch.testing.assert_close(conditional, unconditional)
    assert committee.taught.sum() == len(pack)  # counted once, not once per prompt


@pytest.mark.parametrize("row", [(0.5, 0.4), (0.6, 0.6), (1.5, -0.5), (float("nan"), 1.0), (0.5, 0.4997)])
def test_weights_that_do_not_sum_to_one_are_refused(row: tuple[float, float]) -> None:
    pack, domains = random_pack()
    with pytest.raises(RoutingError, match="sum to 1"):
        Committee(experts(1, 2), Fixed(row), DOMAINS).clean(pack, domains, "DM")


def test_weights_that_sum_to_one_up_to_rounding_are_taken() -> None:
    pack, domains = random_pack()
    Committee(experts(1, 2), Fixed((0.5, 0.49995)), DOMAINS).clean(pack, domains, "DM")


def test_one_teacher_is_no_committee() -> None:
    with pytest.raises(CommitteeError, match="at least two"):
        Committee(experts(1), Fixed([1.0]), DOMAINS)


def test_a_teacher_that_yields_nan_is_named() -> None:
    teachers = {**experts(1, 2), "broken": lambda pack: pack.image_tokens * float("nan")}
    pack, domains = random_pack()
    with pytest.raises(CommitteeError, match=r"committee\.broken"):
        Committee(teachers, Fixed([0.0, 0.5, 0.5]), DOMAINS).clean(pack, domains, "DM")
    Committee(teachers, Fixed([0.5, 0.5, 0.0]), DOMAINS).clean(pack, domains, "DM")  # one that is not asked does no harm


def test_the_base_speaks_without_its_experts(tmp_path: Path) -> None:
    write_payload(tmp_path)
    base = load_transformer(tmp_path / "transformer")
    pack, _ = random_pack()
    with torch.no_grad():
        plain = base(pack)
        teachers = load_teachers(base, tmp_path / "experts", ["c0", "c1"])
        assert not any(parameter.requires_grad for parameter in base.parameters())
        assert torch.equal(teachers["base"](pack), plain)
        assert not torch.equal(teachers["c0"](pack), plain)


def test_dynamic_guidance_lets_the_fake_speak_with_the_expert_and_then_leaves_no_trace() -> None:
    base = random_model()
    random_adapter(base, "c0", 1)
    random_adapter(base, "fake", 2)
    teacher = AdapterTeacher(base, "c0")
    pack, _ = random_pack()
    with torch.no_grad():
        alone = teacher(pack)
        teacher.blend = ("fake", 0.5)
        assert not torch.allclose(teacher(pack), alone)
        teacher.blend = ("fake", 0.0)
        assert torch.equal(teacher(pack), alone)
        teacher.blend = None
        assert torch.equal(teacher(pack), alone)


def test_switching_teachers_leaves_the_fake_adapter_trainable_when_it_speaks() -> None:
    base = random_model()
    random_adapter(base, "c0", 1)
    attach(base, "fake", rank=2, alpha=2.0)
    pack, _ = random_pack()
    with torch.no_grad():
        AdapterTeacher(base, "c0")(pack)
        BaseTeacher(base)(pack)
    activate(base, "fake")
    base(pack).sum().backward()
    touched = {name for name, parameter in base.named_parameters() if parameter.grad is not None}
    assert touched
    assert all(".fake." in name for name in touched)


@pytest.mark.parametrize("content", ["", "[]", '{"c0": {}}', '{"../x": {"teaches": true}}', '{"base": {"teaches": true}}'])
def test_a_bad_table_of_gains_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "experts.json").write_text(content)
    with pytest.raises(CommitteeError):
        read_gains(tmp_path)
