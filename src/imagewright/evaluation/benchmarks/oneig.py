"""Suite oneig: alignment, text, reasoning, style and diversity (OneIG-Bench, 2506.07977), each with a judge that is tried by itself.

The paper's encoders (CLIP, CSD, DreamSim) are not packaged: style and diversity are read from EffLite3 features, and the card says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagewright.data.manifest import ManifestRow
from imagewright.evaluation.benchmarks.context import SuiteContext
from imagewright.evaluation.benchmarks.dpg import scene_prompts
from imagewright.evaluation.benchmarks.longtext import generated, judge_card
from imagewright.evaluation.benchmarks.official import oneig_prompts, read_pinned
from imagewright.evaluation.benchmarks.suite import Suite, suite_card
from imagewright.evaluation.distribution import FEATURES, EffLite3
from imagewright.evaluation.formulas import ONEIG_DIMENSIONS
from imagewright.evaluation.judges.questions import answer_all, answerer_of
from imagewright.evaluation.judges.scene_trial import answerer_card, question_of
from imagewright.evaluation.judges.text import TextReader
from imagewright.evaluation.judges.trust import reasons_against
from imagewright.evaluation.judges.verdicts import Judge, JudgeFailed, Pixels, Prompt
from imagewright.evaluation.results import JudgeCard
from imagewright.evaluation.scene_judge import ScenePrompt

SUITE: Final = "oneig"
SUMS = (("as many {}s as a triangle has corners", 3), ("one {} more than one", 2), ("as many {}s as a square has sides", 4))
REASONED = ("circle", "square", "star")
STYLE_WORDS = {"flat": "flat colours", "outlined": "dark outlines", "dark": "bright colours on a dark background"}
MAX_REFERENCES = 24

Vectors = NDArray[np.float64]
Embed = Callable[[NDArray[np.uint8]], Vectors]


def oneig_suite(context: SuiteContext) -> Suite:
    """Five dimensions; those whose judge is refused are left out, and then there is no overall."""
    file = context.config.benchmarks.get(SUITE)
    references = style_references(context)
    prompts = oneig_prompts(read_pinned(SUITE, file), SUITE) if file else own_prompts(context, tuple(references))
    answerer, reader, embed = answerer_of(context.config.question_judge), TextReader(), EffLite3()
    answers, reads = answerer_card(context, answerer, answerer.name, answerer.digest), judge_card(context, reader)
    styles, centres = style_card(references, embed)
    judges: dict[str, Judge] = {
        "alignment": partial(answer_all, answerer),
        "reasoning": partial(answer_all, answerer),
        "text": reader,
        "style": partial(style_score, embed=embed, centres=centres),
    }
    cards = {"alignment": answers, "reasoning": answers, "text": reads, "style": styles}
    refused = {task: card.refused for task, card in cards.items() if card.refused}
    if file and context.config.question_judge.kind == "scene":
        refused |= dict.fromkeys(("alignment", "reasoning"), "questions in words: set evaluation.question_judge to a model")
    if context.config.images_per_prompt < 2:
        refused["diversity"] = "needs two images of each prompt (evaluation.images_per_prompt)"
    note = f"Style and diversity over {FEATURES} features; the paper uses other encoders, so its figures are no measure for these."
    made = suite_card(SUITE, prompts, file.sha256 if file else "generated", note)
    made = made.model_copy(update={"judges": [answers, reads, styles], "refused": refused})
    sets = {} if "diversity" in refused else {"diversity": partial(diversity, embed=embed)}
    kept = {task: judge for task, judge in judges.items() if task not in refused}
    return Suite(SUITE, ONEIG_DIMENSIONS, tuple(prompts), made, kept, sets)


def own_prompts(context: SuiteContext, styles: Sequence[str]) -> list[Prompt]:
    """Alignment and diversity from held-out scenes, texts, numbers that must be worked out, and styles."""
    count = context.config.suite_prompts
    found = scene_prompts(context, "short", SUITE, "alignment")
    found += [Prompt(f"{SUITE}-text-{prompt.prompt_id}", "text", prompt.text, prompt.truth) for prompt in generated(context)][:count]
    sums = [(phrase.format(shape), shape, number) for shape in REASONED for phrase, number in SUMS][:count]
    for text, shape, number in sums:
        said = ScenePrompt("counting", ((shape, None),), count=number)
        found.append(Prompt(f"{SUITE}-reasoning-{shape}-{number}", "reasoning", text, (question_of(said),)))
    found += [
        Prompt(f"{SUITE}-style-{style}-{shape}", "style", f"a {shape} drawn with {STYLE_WORDS.get(style, style)}", style)
        for style in styles
        for shape in REASONED
    ][:count]
    found += [Prompt(f"{SUITE}-diversity-{shape}", "diversity", f"a {shape}", None) for shape in REASONED]
    return found


def style_references(context: SuiteContext) -> dict[str, Pixels]:
    """Style -> held-out scenes drawn in it [N, H, W, 3], for the styles with at least four."""
    rows: list[ManifestRow] = context.scenes.rows
    names = sorted({row.style for row in rows if row.style})
    chosen = {name: context.scenes.images[[i for i, row in enumerate(rows) if row.style == name][:MAX_REFERENCES]] for name in names}
    return {name: images for name, images in chosen.items() if len(images) >= 4}


def style_card(references: dict[str, Pixels], embed: Embed) -> tuple[JudgeCard, dict[str, Vectors]]:
    """Tries the style reader on the half of the references it does not know: its own style must be nearest."""
    vectors = {name: unit(embed(images)) for name, images in references.items()}
    centres = {name: unit(found[: len(found) // 2].mean(axis=0)) for name, found in vectors.items()}
    held = [(name, vector) for name, found in vectors.items() for vector in found[len(found) // 2 :]]
    nearest = [max(centres, key=lambda other: float(vector @ centres[other])) for _, vector in held]
    right = float(np.mean([near == name for near, (name, _) in zip(nearest, held, strict=True)])) if held else 0.0
    wrong = (1 - right) / max(1, len(centres) - 1)
    card = JudgeCard(
        name=f"style, {FEATURES}", digest="", num_images=len(held), ceiling=right, ceiling_through_vae=None, floors={"another style": wrong}
    )
    reason = "needs two styles among the held-out scenes" if len(centres) < 2 else reasons_against(card)
    return card.model_copy(update={"refused": reason}), centres


def style_score(image: Pixels, prompt: Prompt, *, embed: Embed, centres: dict[str, Vectors]) -> float:
    """1 when the asked style is the nearest. Raises JudgeFailed for a style without references."""
    if prompt.truth not in centres:
        raise JudgeFailed("style without references")
    vector = unit(embed(image[None])[0])
    return float(max(centres, key=lambda other: float(vector @ centres[other])) == prompt.truth)


def diversity(images: Pixels, _: Prompt, *, embed: Embed) -> list[float | None]:
    """One minus the mean cosine of the features of all pairs of a prompt's images [K, H, W, 3]; nothing for a single image."""
    if len(images) < 2:
        return []
    vectors = unit(embed(images))
    cosines = (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]
    return [float(np.clip(1 - cosines.mean(), 0.0, 1.0))]


def unit(vectors: Vectors) -> Vectors:
    """Vectors of length 1."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12))
