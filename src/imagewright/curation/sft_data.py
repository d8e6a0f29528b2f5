"""Builds the SFT dataset: samples of the high-demand domains with diversified prompts, encoded and ready to train on.

Samples of the validation split come with weight 0: no model of the lineage was trained on them, so losses on them can be compared.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from imagewright.config.sft import RewriterConfig, SftConfig
from imagewright.curation.domains import TRAIN, Domain, choose, load_domain
from imagewright.curation.endpoint_rewriting import EndpointRewriter
from imagewright.curation.rewriting import Prompt, Rewriter, RuleRewriter, diversify
from imagewright.data.latents import CorruptSampleError, EncodedCaption, LatentsDataset, LatentsWriter
from imagewright.data.manifest import MANIFEST_NAME, ManifestRow, read_manifest, table_to_rows

CARD_FILE = "card.json"
PROMPTS_FILE = "prompts.jsonl"
SCORE_PREFIX = "score_"
VALIDATION = "validation"
RANK = {form: rank for rank, form in enumerate(("short", "user", "medium", "tags", "original", "long"))}

Encode = Callable[[Sequence[str]], list[Tensor]]


def build_sft_data(
    config: SftConfig, curated: Path, latents: Path, encode: Encode, output: Path, seed: int, rewriter: Rewriter | None = None
) -> dict[str, int]:
    """Writes latents with diversified prompts, `prompts.jsonl` and `card.json` into `output`; returns counts.

    The sample's domain becomes its category, so that experts and validation find their own. A sample in several domains belongs to
    the first that chose it. Raises DomainError for a domain that selects nothing to train on.
    """
    dataset = LatentsDataset(latents)
    rows, scores = selectable_rows(curated)
    features = {dataset.sample_key(index): style_features(dataset, index) for index in readable(dataset)}
    rewriter = rewriter or rewriter_of(config.rewriter, seed)
    rejected: Counter[str] = Counter()
    chosen: dict[str, tuple[Domain, ManifestRow]] = {}
    card: dict[str, object] = {}
    for name in config.domains:
        domain = load_domain(name)
        picked, counts = choose(domain, rows, scores, features)
        card[domain.name] = {"title": domain.title, **counts}
        for row in picked:
            chosen.setdefault(row.sample_key, (domain, row))
    prompts = {
        key: diversify(caption_pairs(row, config.languages), rewriter, domain.forms, rejected) for key, (domain, row) in chosen.items()
    }
    written, held_out = write(dataset, chosen, prompts, concept_weights(chosen, config.concept_balance), encode, output)
    totals = {
        "samples": written,
        "held_out": held_out,
        "prompts": sum(map(len, prompts.values())),
        "rejected_prompts": rejected.total(),
        "domains": len(card),
    }
    content = {"domains": card, "prompts": totals, "rejected": dict(sorted(rejected.items())), "languages": list(config.languages)}
    (output / CARD_FILE).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return totals


def rewriter_of(section: RewriterConfig, seed: int) -> Rewriter:
    """The rewriter that a configuration names. Raises InputError for a model that cannot be loaded."""
    if section.kind == "openai":
        return EndpointRewriter(section)
    if section.kind == "transformers":
        from imagewright.curation.local_rewriting import LocalRewriter

        return LocalRewriter(section, seed)
    return RuleRewriter(seed)


def concept_weights(chosen: Mapping[str, tuple[Domain, ManifestRow]], balance: float) -> dict[str, float]:
    """Sampling weight of every sample: n_c ** -balance inside its domain, c its category; the mean over a domain's training samples is 1.

    balance 0 draws every sample alike, 1 every concept. Samples to measure on weigh 0.
    """
    sizes = Counter((domain.name, row.category) for domain, row in chosen.values() if row.split == TRAIN)
    totals: Counter[str] = Counter()
    for (name, _), size in sizes.items():
        totals[name] += size
    sums = {name: sum(size ** (1.0 - balance) for (mine, _), size in sizes.items() if mine == name) for name in totals}
    return {
        key: sizes[domain.name, row.category] ** -balance * totals[domain.name] / sums[domain.name] if row.split == TRAIN else 0.0
        for key, (domain, row) in chosen.items()
    }


def selectable_rows(curated: Path) -> tuple[list[ManifestRow], dict[str, dict[str, float]]]:
    """Kept rows to train on and to validate with, and their score columns without the prefix by sample key."""
    table = read_manifest(curated / MANIFEST_NAME, splits=(TRAIN, VALIDATION), kept=True)
    names = [name for name in table.column_names if name.startswith(SCORE_PREFIX)]
    columns = {name.removeprefix(SCORE_PREFIX): table.column(name).to_pylist() for name in names}
    rows = list(table_to_rows(table))
    scores = {
        row.sample_key: {name: float(values[at]) for name, values in columns.items() if values[at] is not None}
        for at, row in enumerate(rows)
    }
    return rows, scores


def readable(dataset: LatentsDataset) -> list[int]:
    """Index of the first encoding of every sample."""
    first: dict[str, int] = {}
    for index in range(len(dataset)):
        first.setdefault(dataset.sample_key(index), index)
    return list(first.values())


def style_features(dataset: LatentsDataset, index: int) -> NDArray[np.float64]:
    """Mean and standard deviation of every latent channel: [C, h, w] -> [2C]."""
    values = dataset.read(index).latents.double().flatten(1)
    stacked: NDArray[np.float64] = np.concatenate([values.mean(dim=1).numpy(), values.std(dim=1, correction=0).numpy()])
    return stacked


def caption_pairs(row: ManifestRow, languages: Sequence[str]) -> dict[str, tuple[str, str]]:
    """language -> (shortest form, longest caption) of a row; languages without captions are left out."""
    pairs = {}
    for language in languages:
        captions = [caption for caption in row.captions if caption.language == language and caption.text.strip()]
        if captions:
            short = min(captions, key=lambda caption: RANK.get(caption.form, len(RANK)))
            pairs[language] = (short.text, max(captions, key=lambda caption: len(caption.text)).text)
    return pairs


def write(
    dataset: LatentsDataset,
    chosen: Mapping[str, tuple[Domain, ManifestRow]],
    prompts: Mapping[str, Sequence[Prompt]],
    weights: Mapping[str, float],
    encode: Encode,
    output: Path,
) -> tuple[int, int]:
    """Copies the chosen latents with their new prompts; returns how many samples were written, and how many of them have weight 0.

    A sample whose prompts were all rejected or that is corrupt is left out.
    """
    texts = sorted({prompt.text for found in prompts.values() for prompt in found})
    embeds = dict(zip(texts, encode(texts), strict=True))
    written = held_out = 0
    with (
        LatentsWriter(output, dataset.contract, dataset.empty_prompt) as writer,
        (output / PROMPTS_FILE).open("w", encoding="utf-8") as log,
    ):
        for index in range(len(dataset)):
            key = dataset.sample_key(index)
            if not prompts.get(key):
                continue
            try:
                latents = dataset.read(index).latents
            except CorruptSampleError:
                continue
            captions = [EncodedCaption(prompt.form, embeds[prompt.text].to(dataset.torch_dtype)) for prompt in prompts[key]]
            domain, row = chosen[key]
            writer.add(key, latents, captions, category=domain.name, sampling_weight=weights[key])
            rows = [{"form": prompt.form, "language": prompt.language, "text": prompt.text} for prompt in prompts[key]]
            log.write(json.dumps({"sample_key": key, "domain": domain.name, "prompts": rows}, ensure_ascii=False) + "\n")
            written += 1
            held_out += row.split != TRAIN
    return written, held_out
