"""Suite longtext: can a model write? English and Chinese texts, read back by OCR (LongText-Bench, 2507.22058)."""

from __future__ import annotations

from typing import Final

import numpy as np

from imagewright.evaluation.benchmarks.context import SuiteContext
from imagewright.evaluation.benchmarks.official import longtext_prompts, read_pinned
from imagewright.evaluation.benchmarks.suite import Suite, suite_card
from imagewright.evaluation.judges.text import NAME, TextReader
from imagewright.evaluation.judges.text_trial import reader_card
from imagewright.evaluation.judges.verdicts import Prompt
from imagewright.evaluation.results import JudgeCard

SUITE: Final = "longtext"
LANGUAGES = ("en", "zh")
TRIAL_TEXTS = 10
PARTS = {
    "en": (
        ("Fresh bread", "Hot soup", "Green tea", "The library", "Our garden", "The night market", "This office", "The museum"),
        (
            "is open every day",
            "waits for you tonight",
            "starts at seven",
            "closes on Sunday",
            "moves to room twelve",
            "is free for children",
        ),
        ("please bring a friend", "all guests sign at the desk", "no bags beyond this point", "keep the door shut in winter"),
    ),
    "zh": (
        ("新鲜面包", "城市图书馆", "春季音乐会", "夜市小吃", "二楼办公室", "历史博物馆", "社区花园", "冬季课程"),
        ("每天早上七点开放", "今晚九点准时开始", "周日全天休息", "已经搬到三号楼", "对儿童免费"),
        ("欢迎带朋友一起来", "请在前台登记", "请随手关门", "现场不可以拍照"),
    ),
}
FRAMES = {"en": "a plain poster with the text “{}”", "zh": "一张写着“{}”的海报"}


def longtext_suite(context: SuiteContext) -> Suite:
    """The benchmark's own prompts where a file is configured, else generated ones; both languages share one reader."""
    file = context.config.benchmarks.get(SUITE)
    prompts = longtext_prompts(read_pinned(SUITE, file), SUITE) if file else generated(context)
    reader = TextReader()
    card = judge_card(context, reader)
    made = suite_card(SUITE, prompts, file.sha256 if file else "generated", f"Read by {NAME}; the paper reads with a language model.")
    made = made.model_copy(update={"judges": [card], "refused": {"suite": card.refused} if card.refused else {}})
    return Suite(SUITE, LANGUAGES, tuple(prompts), made, {} if card.refused else dict.fromkeys(LANGUAGES, reader))


def generated(context: SuiteContext) -> list[Prompt]:
    """Prompts of both languages with different texts."""
    found = []
    for language in LANGUAGES:
        texts = texts_of(language, context.config.suite_prompts, context.rng(f"{SUITE} {language}"))
        found += [Prompt(f"{SUITE}-{language}-{i}", language, FRAMES[language].format(text), text) for i, text in enumerate(texts)]
    return found


def texts_of(language: str, count: int, rng: np.random.Generator) -> list[str]:
    """Up to `count` different sentences of three parts each."""
    parts = PARTS[language]
    found: dict[str, None] = {}
    for _ in range(20 * count):
        if len(found) == count:
            break
        chosen = [options[int(rng.integers(len(options)))] for options in parts]
        found["".join(chosen) if language == "zh" else " ".join(chosen)] = None
    return list(found)


def judge_card(context: SuiteContext, reader: TextReader) -> JudgeCard:
    """Tries the reader on texts of both languages at the size that models paint."""
    rng = context.rng(f"{SUITE} trial")
    texts = [(language, text) for language in LANGUAGES for text in texts_of(language, TRIAL_TEXTS // 2, rng)]
    prompts = [Prompt(f"trial-{i}", language, text, text) for i, (language, text) in enumerate(texts)]
    return reader_card(reader, prompts, context.config.resolution_px, context.through_vae, rng, context.seed)
