"""The DiT against diffusers' own class, and its promises about packing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from dit_cases import TINY, Case, build_case, build_pair, flat, randomise, run_reference
from torch import Tensor

from imagewright.config.model import ModelConfig
from imagewright.models import dit, packing, rope
from imagewright.models.dit import ErnieImageDiT

CONFIGS = [
    TINY,
    TINY.model_copy(update={"text_in_dim": 64}),
    ModelConfig(
        hidden_size=48,
        num_layers=3,
        num_attention_heads=2,
        ffn_hidden_size=72,
        in_channels=5,
        out_channels=5,
        text_in_dim=16,
        rope_axes_dim=(8, 8, 8),
        rope_theta=100,
    ),
    ModelConfig(
        hidden_size=32,
        num_layers=1,
        num_attention_heads=1,
        ffn_hidden_size=40,
        in_channels=4,
        out_channels=4,
        text_in_dim=32,
        rope_axes_dim=(0, 16, 16),
        eps=1e-5,
    ),
]
RELEASED = ModelConfig(
    hidden_size=4096, num_layers=36, num_attention_heads=32, ffn_hidden_size=12288, text_in_dim=3072, rope_axes_dim=(32, 48, 48)
)
SIZES = [(3, 5), (4, 4), (3, 5), (5, 3), (3, 5), (1, 1)]
TEXT_LENGTHS = [7, 1, 2, 9, 7, 3]
ROTARY_ANGLES, BUILD_LAYOUT, STEP_TABLES, PLAN_BUCKETS = (
    rope.rotary_angles,
    packing.build_layout,
    ErnieImageDiT.step_tables,
    packing.plan_buckets,
)


def outputs_of(model: ErnieImageDiT, case: Case) -> list[Tensor]:
    pack = case.pack()
    return pack.unpack(model(pack))


@pytest.mark.parametrize("config", CONFIGS, ids=["tiny", "text width = hidden", "odd widths", "one head"])
def test_outputs_and_gradients_equal_diffusers(config: ModelConfig) -> None:
    ours, theirs = build_pair(config)
    case = build_case(config, SIZES, TEXT_LENGTHS)
    actual, expected = flat(outputs_of(ours, case)), flat(run_reference(theirs, case))
    assert expected.abs().mean() > 0.1
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)

    probe = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    (actual * probe).sum().backward()
    (expected * probe).sum().backward()
    reference = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None and parameter.grad.norm() > 0, f"{name} got no gradient"
        difference = (parameter.grad - reference[name].grad).norm() / reference[name].grad.norm()
        assert difference < 1e-4, f"gradient of {name} differs by {difference:.1e}"


def test_bf16_stays_as_close_to_fp32_as_diffusers_does() -> None:
    ours, theirs = build_pair(TINY)
    case = build_case(TINY, SIZES, TEXT_LENGTHS)
    exact = flat(outputs_of(ours, case))
    rounded = flat(outputs_of(ours.bfloat16(), case)).float()
    reference = flat(run_reference(theirs.bfloat16(), case, torch.bfloat16)).float()
    assert (rounded - reference).norm() / reference.norm() < 3e-2
    assert (rounded - exact).norm() <= 1.2 * (reference - exact).norm()


def test_parameter_names_and_order_are_those_of_diffusers(pair: tuple) -> None:
    ours, theirs = pair
    assert list(ours.state_dict()) == list(theirs.state_dict())


def test_released_size_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = ErnieImageDiT(RELEASED)
    assert sum(parameter.numel() for parameter in model.parameters()) == 8_033_490_048
    assert len(model.state_dict()) == 409
    assert sum(parameter.numel() for parameter in model.layers[0].parameters()) == 218_112_256


def test_fresh_model_predicts_exactly_zero(mixed_case: Case) -> None:
    assert all(output.abs().max() == 0 for output in outputs_of(ErnieImageDiT(TINY), mixed_case))


def test_fresh_model_trains_its_output_layer_and_then_everything(mixed_case: Case) -> None:
    model = ErnieImageDiT(TINY)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (flat(outputs_of(model, mixed_case)) - 1).square().mean().backward()
        optimizer.step()
    assert all(parameter.grad is not None and parameter.grad.norm() > 0 for parameter in model.parameters())


def test_packed_equals_one_by_one(pair: tuple, mixed_case: Case) -> None:
    ours, _ = pair
    together = outputs_of(ours, mixed_case)
    alone = [outputs_of(ours, mixed_case.subset([index]))[0] for index in range(len(together))]
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_packing_order_changes_nothing(pair: tuple, mixed_case: Case) -> None:
    ours, _ = pair
    order = [4, 0, 5, 2, 1, 3]
    together, shuffled = outputs_of(ours, mixed_case), outputs_of(ours, mixed_case.subset(order))
    # Not to the bit: some processors round a row of a product by its place in the matrix.
    torch.testing.assert_close([together[index] for index in order], shuffled, rtol=1e-5, atol=1e-5)


def test_a_changed_neighbour_leaves_a_sample_as_it_was(pair: tuple, mixed_case: Case) -> None:
    ours, _ = pair
    before = outputs_of(ours, mixed_case)
    mixed_case.prompts[3] = mixed_case.prompts[3] + 5.0
    after = outputs_of(ours, mixed_case)
    for index in (0, 1, 2, 4, 5):
        assert torch.equal(before[index], after[index])
    assert not torch.allclose(before[3], after[3])


@pytest.mark.parametrize("every", [1, 2])
def test_checkpointing_changes_no_gradient(pair: tuple, mixed_case: Case, every: int) -> None:
    ours, _ = pair
    gradients = []
    for interval in (0, every):
        ours.set_checkpointing(interval)
        ours.zero_grad()
        flat(outputs_of(ours, mixed_case)).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in ours.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)


def test_compiled_blocks_predict_the_same(pair: tuple, mixed_case: Case) -> None:
    ours, _ = pair
    expected = flat(outputs_of(ours, mixed_case))
    ours.compile_blocks(backend="eager")
    torch.testing.assert_close(flat(outputs_of(ours, mixed_case)), expected)


def test_lora_adapters_attach_to_the_projections_and_train(mixed_case: Case) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    model = ErnieImageDiT(TINY)
    randomise(model, 0)
    before = flat(outputs_of(model, mixed_case))
    adapted = inject_adapter_in_model(LoraConfig(r=2, target_modules=["to_q", "to_k", "to_v", "to_out.0"]), model)
    assert torch.allclose(flat(outputs_of(adapted, mixed_case)), before, atol=1e-6)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    changed = flat(outputs_of(adapted, mixed_case))
    assert not torch.allclose(changed, before, atol=1e-2)
    changed.sum().backward()
    adapters = [parameter for name, parameter in adapted.named_parameters() if "lora_" in name]
    assert len(adapters) == 2 * 4 * TINY.num_layers
    assert all(parameter.grad is not None and parameter.grad.norm() > 0 for parameter in adapters)


def half_split_angles(position_ids: Tensor, axes_dim: tuple[int, int, int], theta: int) -> Tensor:
    angles = ROTARY_ANGLES(position_ids, axes_dim, theta)[:, ::2]
    return torch.cat([angles, angles], dim=-1)


def batch_max_length(sizes: tuple, text_lengths: tuple, device: torch.device) -> packing.Layout:
    layout = BUILD_LAYOUT(sizes, text_lengths, device)
    positions = layout.position_ids.clone()
    positions[layout.image_rows, 0] = float(max(text_lengths))
    return replace(layout, position_ids=positions)


def swapped_scale_and_shift(self: ErnieImageDiT, condition: Tensor, layout: packing.Layout) -> dit.StepTables:
    tables = STEP_TABLES(self, condition, layout)
    return tables._replace(shift_msa=tables.scale_msa - 1, scale_msa=1 + tables.shift_msa)


def unmasked(lengths: tuple[int, ...], device: torch.device) -> tuple:
    return tuple(replace(bucket, valid=None) for bucket in PLAN_BUCKETS(lengths, device))


@pytest.mark.parametrize(
    ("owner", "name", "mutant"),
    [
        (rope, "rotary_angles", half_split_angles),
        (packing, "build_layout", batch_max_length),
        (ErnieImageDiT, "step_tables", swapped_scale_and_shift),
        (packing, "plan_buckets", unmasked),
    ],
    ids=["half-split frequencies", "batch-max text length", "scale and shift swapped", "no padding mask"],
)
def test_parity_fails_for_a_known_mistake(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, mutant: object) -> None:
    ours, theirs = build_pair(TINY)
    case = build_case(TINY, SIZES, TEXT_LENGTHS)
    expected = flat(run_reference(theirs, case))
    packing.build_layout.cache_clear()
    monkeypatch.setattr(owner, name, mutant)
    actual = flat(outputs_of(ours, case))
    monkeypatch.undo()
    packing.build_layout.cache_clear()
    assert (actual - expected).abs().max() > 1e-2
