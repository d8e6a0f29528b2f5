"""Suite domains: how well the high-demand domains of fine-tuning are painted, each with the ceiling of its own held-out scenes.

The judge reads composed scenes, so only domains of those can be scored. A domain that the autoencoder itself spoils (ceiling below 0.9)
is scored and shown, and gates do not judge it: no model behind that autoencoder could answer for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from imagewright.curation.domains import Domain, load_domain, qualifies
from imagewright.data.manifest import ManifestRow
from imagewright.data.pixels import kept_rows
from imagewright.evaluation import scene_judge
from imagewright.evaluation.benchmarks.context import SuiteContext
from imagewright.evaluation.benchmarks.suite import Suite, suite_card
from imagewright.evaluation.calibration import calibrate
from imagewright.evaluation.judges.trust import reasons_against
from imagewright.evaluation.judges.verdicts import Judge, Pixels, Prompt
from imagewright.evaluation.results import JudgeCard
from imagewright.evaluation.suites import SPLITS, long_caption, normal, shuffled

SUITE: Final = "domains"
MIN_SCENES = 8
"""Ground truth that a ceiling takes; fewer say nothing."""
MIN_CEILING = 0.9
NO_SCENES = "the judge reads composed scenes only, and {} held-out ones are in it, at least {} are required"


def domains_suite(context: SuiteContext) -> Suite:
    """One task a domain: long captions of its held-out scenes, which name background and style. Raises DomainError for unknown names."""
    cards: list[JudgeCard] = []
    prompts: list[Prompt] = []
    judges: dict[str, Judge] = {}
    refused: dict[str, str] = {}
    ungated: dict[str, str] = {}
    domains = [load_domain(name) for name in context.config.domains]
    for domain in domains:
        card = domain_card(context, domain)
        if card is None or card.refused:
            refused[domain.name] = card.refused if card else NO_SCENES.format(len(places_of(context, domain)), MIN_SCENES)
            cards += [card] if card else []
            continue
        cards.append(card)
        prompts += domain_prompts(context, domain)
        judges[domain.name] = judge_scene
        if (ceiling := card.ceiling_through_vae or 0.0) < MIN_CEILING:
            ungated[domain.name] = f"the autoencoder leaves {ceiling:.3f} of {domain.name} readable, gates take {MIN_CEILING} or more"
    if ungated:
        ungated["overall"] = "; ".join(ungated.values())
    made = suite_card(SUITE, prompts, "generated", "Scored by the scene judge; ceilings are those of each domain's own scenes.")
    made = made.model_copy(update={"judges": cards, "refused": refused, "ungated": ungated})
    return Suite(SUITE, tuple(domain.name for domain in domains), tuple(prompts), made, judges)


def judge_scene(image: Pixels, prompt: Prompt) -> float:
    """1 when everything the prompt says of its objects is true."""
    return float(scene_judge.judge(image, prompt.truth))


def places_of(context: SuiteContext, domain: Domain) -> list[int]:
    """Where the domain's scenes lie among the held-out ones."""
    return [place for place, row in enumerate(context.scenes.rows) if qualifies(domain, row, {})]


def domain_card(context: SuiteContext, domain: Domain) -> JudgeCard | None:
    """The scene judge on a domain's own scenes, as they are and through the autoencoder; None where there are too few."""
    places = places_of(context, domain)
    if len(places) < MIN_SCENES:
        return None
    images, truths = context.scenes.images[places], [context.scenes.rows[place].scene for place in places]
    direct = calibrate(list(images), truths)
    through = calibrate(list(context.through_vae(images)), truths)
    card = JudgeCard(
        name=f"scene judge on {domain.name}",
        digest=hashlib.sha256(Path(scene_judge.__file__ or "").read_bytes()).hexdigest(),
        num_images=direct.num_images,
        ceiling=direct.ceiling,
        ceiling_through_vae=through.ceiling,
        floors=direct.floors,
        ceiling_by_task={domain.name: direct.ceiling},
        ceiling_through_vae_by_task={domain.name: through.ceiling},
    )
    return card.model_copy(update={"refused": reasons_against(card)})


def domain_prompts(context: SuiteContext, domain: Domain) -> list[Prompt]:
    """Up to suite_prompts prompts with different texts."""
    rows: Sequence[ManifestRow] = [row for row in kept_rows(context.curated, tuple(SPLITS.values())) if row.scene]
    found: dict[str, Prompt] = {}
    for row in shuffled([row for row in rows if qualifies(domain, row, {})], context.seed):
        text = long_caption(row)
        if text and len(found) < context.config.suite_prompts:
            said = scene_judge.prompt_from_scene(row.scene)
            found.setdefault(normal(text), Prompt(f"{SUITE}-{domain.name}-{row.sample_key}", domain.name, text, said))
    return list(found.values())
