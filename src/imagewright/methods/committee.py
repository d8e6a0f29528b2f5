"""A committee of teachers: experts on one frozen base (or whole networks) answer as one, in clean-sample space.

x0 = sum_k W_k(prompt, sigma, objective) E_k. A pack is partitioned by teacher and packed again, so hard routing costs one teacher pass.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from imagewright.config.distill import Objective
from imagewright.diffusion.flow_matching import TIMESTEP_SCALE, recover_x0
from imagewright.diffusion.sampler import VelocityModel
from imagewright.errors import InputError, Problem
from imagewright.methods.routing import BASE, OBJECTIVES, Query, Router, check_weights
from imagewright.models.adapters import activate, base_only, load_adapter, tuner_layers
from imagewright.models.dit import ErnieImageDiT
from imagewright.models.packing import Pack, join_packs, take_samples

NUM_BANDS = 4
MAX_JSON_BYTES = 1 << 20


class CommitteeError(InputError):
    """Teachers that cannot teach together."""


class BaseTeacher:
    """The frozen base without any adapter."""

    def __init__(self, base: ErnieImageDiT) -> None:
        self.base = base

    def __call__(self, pack: Pack) -> Tensor:
        """Velocity [N, C]."""
        with base_only(self.base):
            velocity: Tensor = self.base(pack)
        return velocity


class AdapterTeacher:
    """One expert on the shared base. blend: a second adapter that speaks with it at a share of its own scale (dynamic guidance)."""

    def __init__(self, base: ErnieImageDiT, name: str) -> None:
        self.base, self.name = base, name
        self.blend: tuple[str, float] | None = None

    def __call__(self, pack: Pack) -> Tensor:
        """Velocity [N, C]."""
        activate(self.base, self.name)
        with blended(self.base, self.name, self.blend):
            velocity: Tensor = self.base(pack)
        return velocity


@contextmanager
def blended(model: nn.Module, name: str, blend: tuple[str, float] | None) -> Iterator[None]:
    """Inside, a second adapter is active too, scaled by a factor."""
    if blend is None or blend[1] == 0.0:
        yield
        return
    second, factor = blend
    layers = list(tuner_layers(model))
    for layer in layers:
        layer.set_adapter([name, second])
        layer.scaling[second] *= factor
    try:
        yield
    finally:
        for layer in layers:
            layer.scaling[second] /= factor
            layer.set_adapter(name)


class Committee:
    """Teachers by name and the router that weighs them; counts who taught what."""

    def __init__(self, teachers: Mapping[str, VelocityModel], router: Router, domains: Sequence[str]) -> None:
        """domains: every prompt domain, for the report. Raises CommitteeError for fewer than two teachers."""
        if len(teachers) < 2:
            fix = "give experts of at least two domains, or set distill.teachers: single"
            raise CommitteeError(Problem("committee", "needs at least two teachers", list(teachers), fix))
        self.teachers, self.router, self.domains = dict(teachers), router, list(domains)
        self.tokens = 0
        """Tokens the teachers have processed."""
        self.taught = torch.zeros(len(self.domains), len(OBJECTIVES), NUM_BANDS, len(self.teachers), dtype=torch.float64)

    def clean(self, pack: Pack, domains: Sequence[str], objective: Objective) -> Tensor:
        """Clean-sample prediction of the committee, [N, C]."""
        return self.predict(pack, self.weigh(pack, domains, objective))

    def clean_pair(self, pack: Pack, negative: Pack, domains: Sequence[str], objective: Objective) -> tuple[Tensor, Tensor]:
        """Predictions with the prompt and with the empty prompt by the same teachers, in one pass: two [N, C]."""
        weights = self.weigh(pack, domains, objective)
        both = self.predict(join_packs(pack, negative), torch.cat([weights, weights]))
        conditional, unconditional = both.chunk(2)
        return conditional, unconditional

    def weigh(self, pack: Pack, domains: Sequence[str], objective: Objective) -> Tensor:
        """Checked weights [B, K]; remembers who taught what."""
        sigmas = pack.timesteps / TIMESTEP_SCALE
        prompts = torch.split(pack.text_tokens, list(pack.text_lengths))
        weights = self.router.weights(Query(domains, sigmas, prompts, objective))
        check_weights(weights)
        bands = (sigmas * NUM_BANDS).long().clamp(0, NUM_BANDS - 1).tolist()
        for domain, band, row in zip(domains, bands, weights.double().cpu(), strict=True):
            if domain in self.domains:
                self.taught[self.domains.index(domain), OBJECTIVES.index(objective), band] += row
        return weights

    @torch.no_grad()
    def predict(self, pack: Pack, weights: Tensor) -> Tensor:
        """sum_k W_k (x_t - sigma v_k) with weights [B, K]; a teacher sees only the samples it has a weight for. [N, C] in fp32.

        Raises CommitteeError naming a teacher that yields NaN or infinity.
        """
        check_weights(weights)
        pieces: list[Tensor | None] = [None] * len(pack)
        for number, (name, teacher) in enumerate(self.teachers.items()):
            mine = [index for index in range(len(pack)) if float(weights[index, number]) > 0.0]
            if not mine:
                continue
            # The whole pack keeps its identity: a single teacher then repeats the plain forward pass bit for bit.
            part = pack if len(mine) == len(pack) else take_samples(pack, mine)
            self.tokens += part.num_tokens
            velocity = teacher(part).float()
            if not bool(torch.isfinite(velocity).all()):
                fix = "leave this teacher out, or train it again"
                raise CommitteeError(Problem(f"committee.{name}", "yields NaN or infinity", (part.timesteps / 1000.0).tolist(), fix))
            clean = recover_x0(part.image_tokens, velocity, part.spread(part.timesteps / TIMESTEP_SCALE))
            for index, piece in zip(mine, torch.split(clean, list(part.image_lengths)), strict=True):
                weight = float(weights[index, number])
                share = piece if weight == 1.0 else weight * piece
                before = pieces[index]
                pieces[index] = share if before is None else before + share
        found = [piece for piece in pieces if piece is not None]
        assert len(found) == len(pack), "checked weights give every sample a teacher"
        return torch.cat(found)

    def table(self) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
        """Who taught what so far: domain -> objective -> noise band -> teacher -> samples."""
        told: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
        for number, domain in enumerate(self.domains):
            for kind, objective in enumerate(OBJECTIVES):
                for band in range(NUM_BANDS):
                    row = dict(zip(self.teachers, self.taught[number, kind, band].tolist(), strict=True))
                    if any(row.values()):
                        name = f"{band / NUM_BANDS:g}-{(band + 1) / NUM_BANDS:g}"
                        told.setdefault(domain, {}).setdefault(objective, {})[name] = {key: value for key, value in row.items() if value}
        return told


class SingleTeacher(Committee):
    """One teacher for everything, behind the committee's interface."""

    def __init__(self, teacher: VelocityModel, domains: Sequence[str], name: str = BASE) -> None:
        self.teachers, self.router, self.domains = {name: teacher}, EverythingToOne(), list(domains)
        self.tokens = 0
        self.taught = torch.zeros(len(self.domains), len(OBJECTIVES), NUM_BANDS, 1, dtype=torch.float64)


class EverythingToOne:
    """Router of a single teacher."""

    def weights(self, query: Query) -> Tensor:
        """Ones [B, 1]."""
        return torch.ones(len(query.sigmas), 1)


def read_gains(experts: Path) -> dict[str, bool]:
    """Which experts beat the model they grew from on their own domain, from `experts/experts.json` (domain -> teaches)."""
    path = experts / "experts.json"
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(MAX_JSON_BYTES))
        gains = {str(domain): bool(entry["teaches"]) for domain, entry in content.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        fix = "give the payload of finetune-sft as `experts`, or set distill.teachers: single"
        raise CommitteeError(Problem("experts", f"cannot be read: {error}", str(path), fix)) from error
    if any("/" in domain or domain in ("", ".", "..", BASE) for domain in gains):
        raise CommitteeError(Problem("experts", "holds a name that no domain may have", list(gains), "train the experts again"))
    return gains


def load_teachers(base: ErnieImageDiT, experts: Path, names: Sequence[str]) -> dict[str, VelocityModel]:
    """The base and an adapter for each name, all on one frozen network. Raises AdapterError for an expert of another base."""
    teachers: dict[str, VelocityModel] = {BASE: BaseTeacher(base)}
    for name in names:
        load_adapter(base, name, experts / name)
        teachers[name] = AdapterTeacher(base, name)
    for parameter in base.parameters():
        parameter.requires_grad_(False)
    return teachers
