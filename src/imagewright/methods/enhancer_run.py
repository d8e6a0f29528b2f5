"""One enhancer run: pairs from the curated manifest, fine-tuning, the comparison with the untrained model, the `pe/` payload."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from imagewright.config.enhancer import EnhancerConfig
from imagewright.config.training import TrainingConfig
from imagewright.curation.enhancer_pairs import PairsError, PromptPair, held_out_prompts, training_pairs, write_pairs
from imagewright.errors import Problem
from imagewright.evaluation.enhancer_quality import EnhancerQuality, measure
from imagewright.evaluation.statistics import compare_paired
from imagewright.evaluation.suites import SuitePrompt, scene_suite
from imagewright.methods.enhancer import ENHANCER, EnhancerMethod, ExchangeSource, adapt, collate, merge_adapters, tokenize_pairs
from imagewright.methods.enhancer_policy import EnhancerPolicyMethod, PromptSource
from imagewright.methods.enhancer_reward import Judge, rewards_of
from imagewright.methods.preference_prompts import choose_prompts
from imagewright.models.language_model import LanguageModel, load_language_model, save_language_model, user_message
from imagewright.models.text_generation import LocalGenerator
from imagewright.tracking.job_run import JobRun
from imagewright.training.archive import ArchivePlace, part_of
from imagewright.training.hooks import CurveHook, Hook, ProgressHook
from imagewright.training.schedule import Segment, learning_rate
from imagewright.training.trainer import FitResult, Trainer, TrainingPlan
from imagewright.training.world import World

METRICS_FILE = "metrics.json"
PAIRS_FOLDER = "pairs"
NUM_EXAMPLES = 20


@dataclass(frozen=True)
class EnhancerRun:
    """Everything one run is made from."""

    config: EnhancerConfig
    training: TrainingConfig
    curated: Path
    work: Path
    seed: int
    judge: Judge | None = None
    """Judges pictures of expansions in the policy step; None rewards the text alone."""
    archive: ArchivePlace | None = None
    """Where checkpoints of both phases are copied to."""


def run_enhancer(
    settings: EnhancerRun, output: Path, run: JobRun, console: Console | None = None
) -> tuple[dict[str, float], dict[str, int]]:
    """Writes `pe/`, `pe_tokenizer/`, `pairs/` and `metrics.json`; returns metrics and counts.

    Raises PairsError when the manifest gives no usable pair, and LanguageModelError when the model cannot be loaded.
    """
    config = settings.config
    torch.manual_seed(settings.seed)
    pairs, rejected = training_pairs(settings.curated, config.pairs, settings.seed)
    prompts = held_out_prompts(settings.curated, config.pairs, config.validation_prompts, settings.seed, {pair.prompt for pair in pairs})
    write_pairs(output / PAIRS_FOLDER, pairs, rejected, config.pairs)
    language_model = load_language_model(config)
    untrained = quality(language_model, prompts, config)
    result, num_exchanges = fine_tune(language_model, pairs, settings, run, console)
    rewarded = improve(language_model, settings, run, console) if config.policy.steps else {}
    save_language_model(language_model, output)
    trained = quality(language_model, prompts, config)
    metrics = {"train/final_loss": result.last_loss, **result.validation, **rewarded}
    for name, found in (("untrained", untrained), ("trained", trained)):
        metrics |= found.metrics(name) if found else {}
    run.log_metrics(metrics, result.steps)
    write_metrics(output / METRICS_FILE, metrics, {"untrained": untrained, "trained": trained}, config)
    return metrics, {"pairs": num_exchanges, "rejected_pairs": rejected.total(), "prompts": len(prompts), "steps": result.steps}


def quality(language_model: LanguageModel, prompts: Sequence[str], config: EnhancerConfig) -> EnhancerQuality | None:
    """Expansions of the held-out prompts by the model as it is now; None when the manifest holds nothing out."""
    if not prompts:
        return None
    language_model.model.eval()
    generator = LocalGenerator.of(language_model)
    return measure(generator, prompts, config.pairs.sizes_px[0], config.max_new_tokens, config.generation_batch_size)


def fine_tune(
    language_model: LanguageModel, pairs: Sequence[PromptPair], settings: EnhancerRun, run: JobRun, console: Console | None
) -> tuple[FitResult, int]:
    """Trains in place and merges adapters; returns how it ended and the number of pairs used."""
    config, world = settings.config, World()
    exchanges = tokenize_pairs(pairs, language_model.tokenizer, config)
    held = min(config.batch_size, len(exchanges) // 10)
    if not exchanges[held:]:
        fix = "raise enhancer.max_prompt_tokens or enhancer.max_new_tokens"
        raise PairsError(Problem("enhancer.max_new_tokens", "leaves no pair short enough", config.max_new_tokens, fix))
    model, pad_id = language_model.model, int(language_model.tokenizer.pad_token_id)
    adapt(model, config, settings.seed)
    validation = [collate(exchanges[:held], pad_id)] if held else []
    plan = TrainingPlan(
        total_steps=config.steps,
        learning_rates={ENHANCER: learning_rate([Segment(config.steps, config.learning_rate, config.warmup_steps, "cosine", 0.1)])},
        seed=settings.seed,
        fingerprint=fingerprint(config, settings.seed, len(exchanges)),
    )
    training = settings.training.model_copy(update={"ema_decay": 0.0})
    hooks: list[Hook] = [CurveHook(run, training.log_every_steps)]
    hooks += [ProgressHook(console)] if console is not None else []
    method = EnhancerMethod(model.train(), validation, world.device)
    source = ExchangeSource(exchanges[held:], config.batch_size, pad_id, settings.seed)
    archive = part_of(settings.archive, "pairs")
    result = Trainer(method, source, training, plan, settings.work, run, hooks=hooks, world=world, archive=archive).fit()
    merge_adapters(model)
    return result, len(exchanges)


def improve(language_model: LanguageModel, settings: EnhancerRun, run: JobRun, console: Console | None) -> dict[str, float]:
    """The policy step, in place: the fine-tuned model is its own reference. Returns what it gained on held-out prompts."""
    config, world = settings.config, World()
    policy, model = config.policy, language_model.model
    prompts = choose_prompts(settings.curated, policy.max_prompts, settings.seed)
    reference = copy.deepcopy(model).eval().requires_grad_(False)
    adapt(model, config, settings.seed)
    plan = TrainingPlan(
        total_steps=policy.steps,
        learning_rates={ENHANCER: learning_rate([Segment(policy.steps, policy.learning_rate, 0, "constant", 1.0)])},
        seed=settings.seed,
        fingerprint=fingerprint(config, settings.seed, len(prompts)) | {"judged": settings.judge is not None},
    )
    training = settings.training.model_copy(update={"ema_decay": 0.0})
    hooks: list[Hook] = [CurveHook(run, training.log_every_steps)]
    hooks += [ProgressHook(console)] if console is not None else []
    size = config.pairs.sizes_px[0]
    method = EnhancerPolicyMethod(model, reference, language_model.tokenizer, policy, size, settings.judge, settings.seed)
    source = PromptSource(prompts, policy.prompts_per_step, settings.seed)
    archive = part_of(settings.archive, "policy")
    Trainer(method, source, training, plan, settings.work / "policy", run, hooks=hooks, world=world, archive=archive).fit()
    merge_adapters(model)
    held_out = scene_suite(settings.curated, policy.measured_prompts, settings.seed) if policy.measured_prompts else []
    if not held_out:
        return {}
    pair = (language_model, LanguageModel(reference, language_model.tokenizer))
    after, before = (rewards_on(one, held_out, settings) for one in pair)
    return policy_metrics(before, after)


def rewards_on(language_model: LanguageModel, prompts: Sequence[SuitePrompt], settings: EnhancerRun) -> dict[str, float]:
    """Prompt id -> reward of its greedy first answer, before any fallback."""
    config = settings.config
    language_model.model.eval()
    generator, size = LocalGenerator.of(language_model), config.pairs.sizes_px[0]
    found: dict[str, float] = {}
    for start in range(0, len(prompts), config.generation_batch_size):
        batch = prompts[start : start + config.generation_batch_size]
        contents = [user_message(prompt.text, *size) for prompt in batch]
        texts = generator.generate(contents, config.policy.max_new_tokens, float("inf"))
        rewards = rewards_of(batch, texts, config.policy, settings.judge)
        found |= {prompt.prompt_id: reward.total for prompt, reward in zip(batch, rewards, strict=True)}
    return found


def policy_metrics(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Mean rewards and the paired gain with its 95% interval over prompts."""
    compared = compare_paired(after, before)
    return {
        "enhancer/policy_before": sum(before.values()) / len(before),
        "enhancer/policy_after": sum(after.values()) / len(after),
        "enhancer/policy_gain": compared.difference.value,
        "enhancer/policy_gain_low": compared.difference.low,
        "enhancer/policy_gain_high": compared.difference.high,
    }


def fingerprint(config: EnhancerConfig, seed: int, num_exchanges: int) -> dict[str, Any]:
    """What a checkpoint must agree with."""
    measured: Any = {"validation_prompts": True, "generation_batch_size": True, "policy": {"measured_prompts"}}
    return {"method": ENHANCER, "enhancer": config.model_dump(mode="json", exclude=measured), "seed": seed, "exchanges": num_exchanges}


def write_metrics(path: Path, metrics: Mapping[str, float], found: Mapping[str, EnhancerQuality | None], config: EnhancerConfig) -> None:
    """Figures, what broke and examples, with the text of each."""
    content: dict[str, Any] = {"metrics": dict(metrics), "model": config.kind, "adapt": config.adapt, "steps": config.steps}
    for name, quality_found in found.items():
        if quality_found is not None:
            rows = zip(quality_found.prompts, quality_found.expansions, strict=True)
            content[name] = {
                "broken": dict(quality_found.reasons()),
                "examples": [{"prompt": prompt, **asdict(expansion)} for prompt, expansion in rows][:NUM_EXAMPLES],
            }
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
