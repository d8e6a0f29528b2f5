"""What distillation cost: teacher, undistilled, folded and distilled models on the same held-out prompts and noise, by domain and skill.

A table without the rows in which nothing was done proves nothing, so every row is always there; one that no model fills says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagewright.config.drift import DriftConfig
from imagewright.curation.domains import load_domain, qualifies
from imagewright.data.pixels import kept_rows
from imagewright.errors import InputError, Problem
from imagewright.evaluation.formulas import GENEVAL_TASKS
from imagewright.evaluation.generation import GenerationCache, Pixels, SamplerSettings, generate, load_generator
from imagewright.evaluation.painting import image_seed
from imagewright.evaluation.scene_judge import ScenePrompt, judge, prompt_from_scene
from imagewright.evaluation.statistics import Interval, bootstrap, resampled_means
from imagewright.evaluation.suites import SPLITS, long_caption, normal, shuffled
from imagewright.models.text_encoder import TextEncoder
from imagewright.models.vae import Autoencoder

OVERALL = "overall"
TEACHER, UNDISTILLED, FOLDED, SINGLE, TURBO = "teacher", "undistilled", "folded only", "single-teacher DMD", "MT-DMD"


@dataclass(frozen=True)
class DriftPrompt:
    """A held-out prompt. groups: the domains it belongs to and its skill."""

    prompt_id: str
    text: str
    said: ScenePrompt
    groups: tuple[str, ...]


@dataclass(frozen=True)
class Arm:
    """One row of the table: whose weights, how many steps, under which guidance."""

    name: str
    model: str
    num_steps: int
    guidance_scale: float

    @property
    def num_evaluations(self) -> int:
        """Network evaluations of one image."""
        return self.num_steps * (2 if self.guidance_scale != 1.0 else 1)


@dataclass(frozen=True)
class ArmModel:
    """Payload folder (`ema/` before `transformer/`) and the digest that names its images in the cache."""

    payload: Path
    digest: str


@dataclass
class ArmResult:
    """A row with its scores: group -> interval over prompts; empty where no model was given."""

    arm: Arm
    scores: dict[str, Interval] = field(default_factory=dict)
    per_prompt: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """A statement with the paired interval that decides it."""

    name: str
    rule: str
    interval: Interval
    holds: bool


@dataclass(frozen=True)
class DriftReport:
    """Everything the page and `drift.json` show."""

    rows: list[ArmResult]
    groups: dict[str, int]
    """Group -> prompts."""
    claims: list[Claim]
    worst_drop: dict[str, tuple[str, Interval]]
    """Row -> the group that lost most against the teacher, and how much (student - teacher, paired)."""
    shown: list[str]
    """Texts of the grid's prompts."""

    def tree(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def metrics(self) -> dict[str, float]:
        """`drift/<row>_<nfe>_nfe` overall accuracies, and the lower bound of every claim (`drift/claim_...`)."""
        found = {
            f"drift/{metric_name(row.arm.name)}_{row.arm.num_evaluations}_nfe": row.scores[OVERALL].value for row in self.rows if row.scores
        }
        return found | {f"drift/claim_{metric_name(claim.name)}_low": claim.interval.low for claim in self.claims}


def arms(config: DriftConfig) -> list[Arm]:
    """Every row, in the order of the table; `half` is the sampler that shows whether anything was learned."""
    whole, half = config.student_steps, config.student_steps // 2
    rows = [Arm(TEACHER, TEACHER, config.teacher_steps, config.guidance_scale)]
    rows += [Arm(UNDISTILLED, TEACHER, steps, 1.0) for steps in (whole, half)]
    rows += [Arm("undistilled, guided", TEACHER, max(1, steps // 2), config.guidance_scale) for steps in (whole, half)]
    rows += [Arm(name, name, steps, 1.0) for name in (FOLDED, SINGLE, TURBO) for steps in (whole, half)]
    return rows


def drift_prompts(curated: Path, domains: Sequence[str], count: int, seed: int) -> list[DriftPrompt]:
    """Up to `count` held-out prompts with different texts, the skills in turn. Raises InputError when there is none."""
    declared = [load_domain(name) for name in domains]
    by_task: dict[str, dict[str, DriftPrompt]] = {task: {} for task in GENEVAL_TASKS}
    for row in shuffled([row for row in kept_rows(curated, tuple(SPLITS.values())) if row.scene], seed):
        caption = long_caption(row)
        if caption:
            said = prompt_from_scene(row.scene)
            groups = tuple(f"domain {domain.name}" for domain in declared if qualifies(domain, row, {}))
            found = DriftPrompt(row.sample_key, caption, said, (*groups, f"skill {said.task}"))
            by_task[said.task].setdefault(normal(caption), found)
    queues = [list(found.values()) for found in by_task.values()]
    turns = [queue[turn] for turn in range(max(map(len, queues))) for queue in queues if turn < len(queue)]
    if not turns:
        rule = f"must hold kept scenes in {', '.join(SPLITS.values())}"
        raise InputError(Problem("curated", rule, 0, "set data.scenes.holdout_fraction"))
    return turns[:count]


def measure_drift(
    config: DriftConfig,
    models: Mapping[str, ArmModel],
    prompts: Sequence[DriftPrompt],
    *,
    vae: Autoencoder,
    text_encoder: TextEncoder,
    cache: GenerationCache,
    seed: int,
) -> tuple[DriftReport, list[list[Pixels]]]:
    """models: `teacher`, and those of `folded only`, `single-teacher DMD` and `MT-DMD` that exist.

    Returns the report and the pictures of its grid, [columns][rows], one column per row of the table that has a model.
    """
    requests = [(prompt.text, image_seed(seed, prompt.prompt_id, 0)) for prompt in prompts]
    shown = sorted({int(place) for place in np.linspace(0, len(prompts) - 1, min(config.grid_prompts, len(prompts)))})
    rows, columns = [], []
    for arm in arms(config):
        row = ArmResult(arm)
        rows.append(row)
        if arm.model not in models:
            continue
        given = models[arm.model]
        generator = load_generator(given.payload, given.digest, vae, text_encoder, config.batch_size)
        settings = SamplerSettings(arm.num_steps, arm.guidance_scale, config.shift, config.resolution_px)
        images, _ = generate(generator, requests, settings, cache)
        row.per_prompt = {prompt.prompt_id: float(judge(image, prompt.said)) for prompt, image in zip(prompts, images, strict=True)}
        row.scores = score_groups(prompts, row.per_prompt, config.bootstrap_resamples)
        columns.append([images[place] for place in shown])
    groups = {name: len(members) for name, members in members_of(prompts).items()}
    teacher = rows[0].per_prompt
    drops = {
        f"{row.arm.name}, {row.arm.num_evaluations} NFE": worst_drop(prompts, row.per_prompt, teacher) for row in rows[1:] if row.scores
    }
    return DriftReport(rows, groups, claims(config, rows), drops, [prompts[place].text for place in shown]), columns


def metric_name(words: str) -> str:
    """Words as a metric's name."""
    return "".join(letter if letter.isalnum() else "_" for letter in words.casefold())


def members_of(prompts: Sequence[DriftPrompt]) -> dict[str, list[str]]:
    """Group -> ids of its prompts; `overall` holds all."""
    found: dict[str, list[str]] = {OVERALL: [prompt.prompt_id for prompt in prompts]}
    for prompt in prompts:
        for group in prompt.groups:
            found.setdefault(group, []).append(prompt.prompt_id)
    return {OVERALL: found.pop(OVERALL), **dict(sorted(found.items()))}


def score_groups(prompts: Sequence[DriftPrompt], per_prompt: Mapping[str, float], resamples: int) -> dict[str, Interval]:
    """Accuracy of every group with its interval."""
    return {name: bootstrap([per_prompt[key] for key in members], resamples) for name, members in members_of(prompts).items()}


def worst_drop(prompts: Sequence[DriftPrompt], student: Mapping[str, float], teacher: Mapping[str, float]) -> tuple[str, Interval]:
    """The domain (or skill, where no domain is declared) with the lowest paired difference student - teacher."""
    members = {name: keys for name, keys in members_of(prompts).items() if name.startswith("domain ")}
    members = members or {name: keys for name, keys in members_of(prompts).items() if name != OVERALL}
    found = {name: bootstrap([student[key] - teacher[key] for key in keys]) for name, keys in members.items()}
    name = min(found, key=lambda group: found[group].value)
    return name, found[name]


def claims(config: DriftConfig, rows: Sequence[ArmResult]) -> list[Claim]:
    """What every given student must show: not inferior to the teacher, and better than folding alone at half the steps."""
    found = []
    by_arm = {(row.arm.name, row.arm.num_steps): row for row in rows if row.scores}
    teacher = rows[0]
    for name in (FOLDED, SINGLE, TURBO):
        whole, half = by_arm.get((name, config.student_steps)), by_arm.get((name, config.student_steps // 2))
        if whole is None or half is None:
            continue
        kept = 1.0 - config.max_loss
        found.append(
            claim(f"{name} is not inferior at {config.student_steps} NFE", f"- {kept:g} x teacher", whole, teacher, kept, strict=False)
        )
        base = by_arm.get((FOLDED, config.student_steps // 2))
        if name != FOLDED and base is not None:
            found.append(claim(f"{name} beats folding at {config.student_steps // 2} NFE", "- folded only", half, base, 1.0, strict=True))
    single, several = (by_arm.get((name, config.student_steps)) for name in (SINGLE, TURBO))
    if single is not None and several is not None:
        found.append(claim("several teachers beat one", "- single-teacher DMD", several, single, 1.0, strict=True))
    return found


def claim(name: str, rule: str, first: ArmResult, second: ArmResult, share: float, *, strict: bool) -> Claim:
    """first - share x second, paired: holds when its whole interval is above zero (or at zero, when not strict)."""
    differences = np.array([first.per_prompt[key] - share * second.per_prompt[key] for key in sorted(first.per_prompt)])
    interval = paired_interval(differences)
    return Claim(name, f"{first.arm.name} {rule}", interval, interval.low > 0 if strict else interval.low >= 0)


def paired_interval(differences: NDArray[np.float64], resamples: int = 4000) -> Interval:
    """Mean with its 95% percentile interval over prompts."""
    means = resampled_means(differences, resamples, np.random.default_rng(0))
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(differences.mean()), float(low), float(high))
