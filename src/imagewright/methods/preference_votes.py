"""People's votes on a model's own samples: the project they vote in, and its export as verdicts on pairs of samples.

Both name a sample by a key that says how to draw it again: model, sampler, prompt and seed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imagewright.annotation.exported import read_rows
from imagewright.annotation.project import MAX_PROMPT_CHARS, Item, Project
from imagewright.data.preferences import PreferenceError
from imagewright.errors import Problem
from imagewright.evaluation.generation import SamplerSettings, write_png

VOTES_FOLDER, PROJECT_NAME, IMAGES_FOLDER = "votes", "project.json", "images"
EXPORTED_PAIRS = "pairs.parquet"
SOURCES = {"human": "human", "simulated": "synthetic"}
"""Origin of a vote -> source of the pair it makes."""
KEY = re.compile(r"([0-9a-f]{12})\.([0-9a-f]{8})\.([0-9a-f]{16})\.(\d{1,18})")
FIX = "give the export of a project that build-preferences wrote for this model with these sampler settings"


@dataclass(frozen=True)
class Sampling:
    """What all samples of one build share, as their keys name it."""

    model: str
    """First 12 digits of the payload digest."""
    sampler: str
    """Eight digits over sampler settings, autoencoder and text encoder."""

    def key(self, prompt: str, seed: int) -> str:
        """Permanent name of a sample; also a key of the annotation page."""
        return f"{self.model}.{self.sampler}.{prompt_digest(prompt)}.{seed}"


def sampling_of(model_digest: str, identity: str, settings: SamplerSettings) -> Sampling:
    """model_digest: of the payload. identity: what else decides a pixel, as the generator names it."""
    tree = json.dumps([identity, asdict(settings)], sort_keys=True)
    return Sampling(model_digest[:12], hashlib.sha256(tree.encode()).hexdigest()[:8])


def prompt_digest(prompt: str) -> str:
    """16 digits of a prompt's text."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Verdict:
    """What voters say of two samples of one prompt, by their seeds. share_for: of the votes for the winner; one half is a tie."""

    winner: int
    loser: int
    share_for: float
    num_votes: int
    source: str

    @property
    def margin(self) -> float:
        """Share for minus share against."""
        return 2 * self.share_for - 1


@dataclass
class Votes:
    """Verdicts by prompt digest, and votes by what became of them: `used`, `other_model`, `other_sampler`, `unknown`."""

    verdicts: dict[str, list[Verdict]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def on(self, prompt: str) -> list[Verdict]:
        """Verdicts on samples of a prompt."""
        return self.verdicts.get(prompt_digest(prompt), [])

    def seeds(self, prompt: str) -> list[int]:
        """Seeds of the samples of a prompt that were voted on."""
        return list(dict.fromkeys(seed for verdict in self.on(prompt) for seed in (verdict.winner, verdict.loser)))


def read_votes(folder: Path, sampling: Sampling, prompts: Collection[str]) -> Votes:
    """The votes of an export that are about samples of this build. prompts: texts that the curated data holds.

    A vote on samples of another model, of another sampler, or of unknown prompts is counted and left out. Raises PreferenceError when
    nothing is left or a vote does not say whose it is, InputError when the export cannot be read.
    """
    known = {prompt_digest(prompt) for prompt in prompts}
    ballots: dict[tuple[str, int, int], dict[str, tuple[int, str]]] = defaultdict(dict)
    counts: Counter[str] = Counter()
    for number, row in enumerate(read_rows(folder / EXPORTED_PAIRS, FIX)):
        origin = str(row.get("origin"))
        if origin not in SOURCES:
            raise PreferenceError(Problem(f"votes[{number}].origin", f"must be one of {', '.join(SOURCES)}", origin, "say who voted"))
        winner, loser = (KEY.fullmatch(str(row.get(name))) for name in ("winner", "loser"))
        fate = fate_of(winner, loser, sampling, known)
        counts[fate] += 1
        if fate == "used" and winner is not None and loser is not None:
            seeds = int(winner[4]), int(loser[4])
            # An annotator has one vote on a pair: of exports put together the last one counts.
            ballots[winner[3], min(seeds), max(seeds)][str(row.get("annotator"))] = (seeds[0], origin)
    if not ballots:
        rule = f"must hold votes on samples of this model, {sampling.model}, and this sampler, {sampling.sampler}"
        raise PreferenceError(Problem("votes", rule, dict(counts) or "no vote", FIX))
    verdicts: dict[str, list[Verdict]] = defaultdict(list)
    for (prompt, first, second), cast in ballots.items():
        verdicts[prompt].append(verdict_of(first, second, list(cast.values())))
    return Votes(dict(verdicts), counts)


def fate_of(winner: re.Match[str] | None, loser: re.Match[str] | None, sampling: Sampling, known: Collection[str]) -> str:
    """What becomes of a vote."""
    if winner is None or loser is None or winner.groups()[:3] != loser.groups()[:3] or winner[4] == loser[4]:
        return "unknown"
    if winner[1] != sampling.model:
        return "other_model"
    if winner[2] != sampling.sampler:
        return "other_sampler"
    return "used" if winner[3] in known else "unknown"


def verdict_of(first: int, second: int, cast: list[tuple[int, str]]) -> Verdict:
    """The majority of votes, each a preferred seed with its origin; one simulated vote makes the verdict synthetic."""
    share = sum(seed == first for seed, _ in cast) / len(cast)
    winner, loser = (first, second) if share >= 0.5 else (second, first)
    source = SOURCES["human" if all(origin == "human" for _, origin in cast) else "simulated"]
    return Verdict(winner, loser, max(share, 1 - share), len(cast), source)


class BallotWriter:
    """Writes what people vote on: `project.json` for `imagewright annotate create`, and one PNG per sample in `images/`."""

    def __init__(self, folder: Path, sampling: Sampling) -> None:
        self.folder, self.sampling = folder, sampling
        self.items: list[Item] = []
        self.pairs: list[tuple[str, str]] = []

    def add(self, prompt: str, category: str, samples: tuple[tuple[int, NDArray[np.uint8]], tuple[int, NDArray[np.uint8]]]) -> None:
        """Puts two samples of a prompt, (seed, image [H, W, 3]) each, to the vote."""
        (self.folder / IMAGES_FOLDER).mkdir(parents=True, exist_ok=True)
        keys = []
        for seed, image in samples:
            keys.append(self.sampling.key(prompt, seed))
            self.items.append(Item(key=keys[-1], prompt=prompt[:MAX_PROMPT_CHARS], category=category))
            (self.folder / IMAGES_FOLDER / f"{keys[-1]}.png").write_bytes(write_png(image))
        self.pairs.append((keys[0], keys[1]))

    def close(self) -> None:
        """Writes the project; nothing when nothing was put to the vote. Its name follows from its pairs: the same pairs are one project."""
        if self.pairs:
            content = hashlib.sha256(json.dumps(self.pairs).encode()).hexdigest()
            name = f"preferences-{self.sampling.model}-{content[:8]}"
            project = Project.model_validate({"name": name, "kind": "preference", "items": tuple(self.items), "pairs": tuple(self.pairs)})
            (self.folder / PROJECT_NAME).write_text(project.model_dump_json(indent=1) + "\n", encoding="utf-8")
