"""Reverse pairs of the enhancer: long captions of the curated manifest degraded into prompts as people type them.

The caption is the answer, the degraded prompt the question (Qwen-Image-2.0 trains its enhancer so). Quoted text always survives, and a pair
whose answer breaks a constraint of its own prompt is left out, since it would teach exactly that.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from imagewright.config.enhancer import PairsConfig, Strategy
from imagewright.curation.card import markdown_table
from imagewright.curation.prompt_additions import add_to_both, draw_addition
from imagewright.curation.prompt_constraints import COLOURS, broken_constraints
from imagewright.curation.rewriting import keywords, rejection, visible_texts
from imagewright.data.manifest import MANIFEST_NAME, ManifestRow, read_manifest, table_to_rows
from imagewright.errors import InputError, Problem
from imagewright.sources.scene_spec import is_held_out, scene_from_json

PAIRS_FILE = "pairs.jsonl"
CARD_FILE = "README.md"
ATTRIBUTES = COLOURS | {"small", "large", "big", "bold", "regular", "bright", "dark", "flat", "simple"}
ATTRIBUTE = re.compile(rf"\b(?:{'|'.join(sorted(ATTRIBUTES))})\s+", re.IGNORECASE)
ARTICLE = re.compile(r"\b(a|an)(\s+)(\w)", re.IGNORECASE)
CLAUSE = re.compile(r"[:;,.。，：；]\s*(?![^“”]*”)")
COLLOQUIAL = (
    "draw {what}", "please make {what}", "i want {what}", "{what} pls", "can you draw {what}?", "gimme {what}", "just {what}",
    "could i get {what} please", "{what}",
)  # fmt: skip
SHOUTED_SHARE = 0.15


class PairsError(InputError):
    """A curated manifest that no pair can be made from."""


@dataclass(frozen=True)
class PromptPair:
    """One question and its answer."""

    sample_key: str
    prompt: str
    caption: str
    strategy: str
    width: int
    height: int


class Degrader(Protocol):
    """Anything that turns a detailed caption into a short prompt: rules here, a language model behind an endpoint elsewhere."""

    def degrade(self, row: ManifestRow, caption: str, strategy: Strategy) -> str:
        """One short prompt, empty when the strategy has nothing to offer. Raises OSError or ValueError when it fails."""


class RuleDegrader:
    """Degrades by rules; deterministic in the seed."""

    def __init__(self, seed: int, language: str) -> None:
        self.rng = np.random.default_rng(seed)
        self.language = language

    def degrade(self, row: ManifestRow, caption: str, strategy: Strategy) -> str:
        """Applies one strategy to a caption, or takes the row's own short captions."""
        if strategy == "original":
            return self.choose([c.text for c in row.captions if c.language == self.language and c.form in ("short", "user", "medium")])
        if strategy == "other_language":
            return self.choose([c.text for c in row.captions if c.language != self.language and c.form in ("short", "user")])
        clause = main_clause(caption, row, self.language)
        if strategy == "one_clause":
            return clause
        if strategy == "drop_attributes":
            return drop_attributes(clause)
        return keywords(clause, self.language) if strategy == "keywords" else self.colloquial(clause)

    def colloquial(self, clause: str) -> str:
        """As people ask for it, now and then in capitals; quoted text stays as it is."""
        plain = drop_attributes(clause) if self.rng.random() < 0.5 else clause
        if not visible_texts(plain) and self.rng.random() < SHOUTED_SHARE:
            return plain.upper() + "!" * int(self.rng.integers(4))
        return COLLOQUIAL[int(self.rng.integers(len(COLLOQUIAL)))].format(what=plain)

    def choose(self, texts: Sequence[str]) -> str:
        """One of the texts; empty without any."""
        return texts[int(self.rng.integers(len(texts)))] if texts else ""


def drop_attributes(text: str) -> str:
    """Leaves out colours, sizes and style words outside quotes, then puts `a` and `an` right."""
    parts = re.split(r"(“[^”]*”|\"[^\"]*\")", text)
    bare = "".join(part if number % 2 else ATTRIBUTE.sub("", part) for number, part in enumerate(parts))
    return ARTICLE.sub(lambda match: f"{'an' if match[3] in 'aeiou' else 'a'}{match[2]}{match[3]}", bare)


def main_clause(caption: str, row: ManifestRow, language: str) -> str:
    """The clause that says what is shown: the one that shares most words with the row's short caption; whole when text is quoted."""
    if "“" in caption or '"' in caption:
        return caption.rstrip(".。")
    short = next((c.text for c in row.captions if c.language == language and c.form == "short"), caption)
    wanted = set(short.lower().split())
    clauses = [clause for clause in CLAUSE.split(caption) if clause.strip()]
    best = max(clauses, key=lambda clause: (len(wanted & set(clause.lower().split())), -len(clause)))
    best = re.sub(r"^(this picture shows|on a \w+ background there is)\s+", "", best.strip(), flags=re.IGNORECASE)
    return re.sub(r"\s+on a \w+ background$", "", best, flags=re.IGNORECASE)


def make_pairs(rows: Iterable[ManifestRow], config: PairsConfig, seed: int, rejected: Counter[str], degrader: Degrader) -> list[PromptPair]:
    """At most `config.max_pairs` pairs of the rows, in an order fixed by the seed. `rejected` counts what was left out and why."""
    rng = np.random.default_rng(seed)
    candidates = list(rows)
    pairs: list[PromptPair] = []
    for index in draw_order([row.source for row in candidates], config.source_balance, rng):
        if len(pairs) == config.max_pairs:
            break
        row = candidates[index]
        caption = longest_caption(row, config.language)
        strategy = config.strategies[int(rng.integers(len(config.strategies)))]
        width, height = config.sizes_px[int(rng.integers(len(config.sizes_px)))]
        reason, prompt = "no_caption", ""
        if row.scene and is_held_out(scene_from_json(row.scene)):
            reason = "held_out_combination"
        elif caption:
            reason, prompt = try_strategy(degrader, row, caption, strategy)
        if not reason and rng.random() < config.additions:
            reason, prompt, caption = with_addition(prompt, caption, rng)
        if reason:
            rejected[reason] += 1
        else:
            pairs.append(PromptPair(row.sample_key, prompt, caption, strategy, width, height))
    return pairs


def draw_order(sources: Sequence[str], balance: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """A random order of rows in which rows of small sources come sooner: weights are (rows of the source)^-balance.

    Weighted sampling without replacement by exponential keys (Efraimidis and Spirakis 2006).
    """
    counts = Counter(sources)
    weights = np.array([counts[source] ** -balance for source in sources])
    return np.argsort(rng.exponential(size=len(sources)) / weights, kind="stable")


def with_addition(prompt: str, caption: str, rng: np.random.Generator) -> tuple[str, str, str]:
    """(why not, prompt, caption) with the same remark at the end of both."""
    asked, told = add_to_both(prompt, caption, draw_addition(rng, caption))
    broken = broken_constraints(asked, told)
    return (f"addition_{broken[0]}" if broken else ""), asked, told


def try_strategy(degrader: Degrader, row: ManifestRow, caption: str, strategy: Strategy) -> tuple[str, str]:
    """(why the pair cannot be used, "") or ("", the prompt)."""
    try:
        prompt = degrader.degrade(row, caption, strategy).strip()
    except (OSError, ValueError) as error:
        return f"degrader_{type(error).__name__}", ""
    if not prompt:
        return f"nothing_for_{strategy}", ""
    if strategy == "other_language":
        broken = broken_constraints(prompt, caption)
        return (f"answer_{broken[0]}" if broken else ""), prompt
    reason = rejection(prompt, caption if "“" in caption and strategy != "original" else "")
    broken = () if reason else broken_constraints(prompt, caption)
    return reason or (f"answer_{broken[0]}" if broken else ""), prompt


def longest_caption(row: ManifestRow, language: str) -> str:
    """The most detailed caption of a language; empty without a long one."""
    return max((c.text for c in row.captions if c.language == language and c.form == "long"), key=len, default="")


def training_pairs(
    curated: Path, config: PairsConfig, seed: int, degrader: Degrader | None = None
) -> tuple[list[PromptPair], Counter[str]]:
    """Pairs of the kept train rows, and what was left out. Raises PairsError when none can be made."""
    rejected: Counter[str] = Counter()
    table = read_manifest(curated / MANIFEST_NAME, splits=("train",), kept=True)
    pairs = make_pairs(table_to_rows(table), config, seed, rejected, degrader or RuleDegrader(seed, config.language))
    if not pairs:
        fix = "curate captions of the form `long` in this language"
        raise PairsError(Problem("enhancer.pairs", "the manifest gave no pair", dict(rejected), fix))
    return pairs, rejected


def held_out_prompts(curated: Path, config: PairsConfig, count: int, seed: int, seen: Collection[str] = ()) -> list[str]:
    """At most `count` different short prompts of rows outside the train split, drawn evenly; none that is in `seen`."""
    table = read_manifest(curated / MANIFEST_NAME, splits=("validation", "holdout_compositional", "holdout_concept"), kept=True)
    texts = [c.text for row in table_to_rows(table) for c in row.captions if c.language == config.language and c.form in ("short", "user")]
    unique = [text for text in dict.fromkeys(texts) if text not in seen]
    return [unique[index] for index in np.random.default_rng(seed).permutation(len(unique))[:count]]


def write_pairs(folder: Path, pairs: Sequence[PromptPair], rejected: Mapping[str, int], config: PairsConfig) -> None:
    """Writes `pairs.jsonl` and its card."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(asdict(pair), ensure_ascii=False) for pair in pairs)
    (folder / PAIRS_FILE).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    strategies = Counter(pair.strategy for pair in pairs)
    card = [
        "# Prompt pairs",
        "",
        f"{len(pairs)} reverse pairs: captions in `{config.language}` and the short prompts they were degraded to. Quoted text is kept",
        "word for word. Only kept samples of the train split are used, and no scene with a held-out combination.",
        "",
        *markdown_table(["strategy", "pairs"], [[name, strategies[name]] for name in config.strategies]),
        "",
        "## Left out",
        "",
        *markdown_table(["reason", "candidates"], [[name, count] for name, count in sorted(rejected.items())]),
        "",
        "## Examples",
        "",
        *markdown_table(["strategy", "prompt", "caption"], [[p.strategy, p.prompt, p.caption] for p in pairs[:12]]),
        "",
    ]
    (folder / CARD_FILE).write_text("\n".join(card), encoding="utf-8")


def read_pairs(folder: Path) -> list[PromptPair]:
    """Reads `pairs.jsonl`. Raises PairsError for a line that is no pair."""
    pairs = []
    for number, line in enumerate((folder / PAIRS_FILE).read_text(encoding="utf-8").splitlines()):
        try:
            pairs.append(PromptPair(**json.loads(line)))
        except (TypeError, ValueError) as error:
            raise PairsError(Problem(f"{PAIRS_FILE}.{number}", f"is not a pair: {error}", None, "build the pairs again")) from error
    return pairs
