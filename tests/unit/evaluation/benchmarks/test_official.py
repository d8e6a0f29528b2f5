"""A benchmark's own files: read when they are what they should be, refused with the line when they are not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from imagewright.config.evaluation import BenchmarkFile, EvaluationConfig
from imagewright.data.manifest import Caption, ManifestRow
from imagewright.evaluation.benchmarks.official import (
    BenchmarkError,
    dpg_prompts,
    longtext_prompts,
    oneig_prompts,
    read_pinned,
    refuse_leaked,
)
from imagewright.evaluation.judges.verdicts import Prompt
from imagewright.evaluation.suites import LeakError

DPG = (
    "item_id,text,category,proposition_id,dependency,tuple,question_natural_language\n"
    'a,"A cat, asleep",x,1,0,t,Is there a cat?\n'
    'a,"A cat, asleep",x,2,1,t,Is the cat asleep?\n'
    "b,Two dogs,x,1,0,t,Are there dogs?\n"
)


def pinned(path: Path, text: str) -> BenchmarkFile:
    path.write_text(text, encoding="utf-8")
    return BenchmarkFile(path=str(path), sha256=hashlib.sha256(text.encode()).hexdigest())


def test_only_the_pinned_file_is_read(tmp_path: Path) -> None:
    file = pinned(tmp_path / "prompts.csv", DPG)
    assert read_pinned("dpg", file) == DPG
    (tmp_path / "prompts.csv").write_text(DPG + "b,Two dogs,x,2,1,t,Are they two?\n")
    with pytest.raises(BenchmarkError, match="must be the digest of the file"):
        read_pinned("dpg", file)
    with pytest.raises(BenchmarkError, match="cannot be read"):
        read_pinned("dpg", BenchmarkFile(path=str(tmp_path / "gone"), sha256="0" * 64))


def test_dpg_questions_keep_their_dependencies() -> None:
    first, second = dpg_prompts(DPG, "dpg")
    assert (first.text, second.text) == ("A cat, asleep", "Two dogs")
    assert [(question.key, question.parents) for question in first.truth] == [("1", ()), ("2", ("1",))]
    with pytest.raises(BenchmarkError, match="needs the columns"):
        dpg_prompts("prompt\na cat\n", "dpg")


def test_longtext_lines_know_their_language() -> None:
    rows = [{"prompt": "a sign", "text": ["OPEN", "LATE"]}, {"prompt": "一个牌子", "text": "今日特价"}]
    english, chinese = longtext_prompts("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "longtext")
    assert (english.task, english.truth, chinese.task) == ("en", "OPEN\nLATE", "zh")


@pytest.mark.parametrize("line", ["{", "[]", '{"prompt": "x"}', '{"prompt": 3, "text": "x"}', '{"prompt": "x", "text": [1]}'])
def test_a_line_that_is_none_is_named(line: str) -> None:
    good = '{"prompt": "a", "text": "b"}'
    with pytest.raises(BenchmarkError, match="line 2"):
        longtext_prompts(f"{good}\n{line}", "longtext")


def test_oneig_rows_bring_what_judges_them() -> None:
    rows = [
        {"dimension": "alignment", "prompt": "a cat", "questions": [{"key": "1", "text": "Is there a cat?"}]},
        {"dimension": "text", "prompt": "a sign", "text": "OPEN"},
        {"dimension": "style", "prompt": "a dog, flat", "style": "flat"},
        {"dimension": "diversity", "prompt": "a dog"},
    ]
    found = oneig_prompts("\n".join(map(json.dumps, rows)), "oneig")
    assert [prompt.task for prompt in found] == ["alignment", "text", "style", "diversity"]
    for broken in ({"dimension": "beauty", "prompt": "x"}, {"dimension": "reasoning", "prompt": "x"}, {"dimension": "text", "prompt": "x"}):
        with pytest.raises(BenchmarkError, match="line 1"):
            oneig_prompts(json.dumps(broken), "oneig")


def test_a_prompt_that_is_a_training_caption_is_a_leak() -> None:
    prompts = [Prompt("1", "en", "A red cat.", None), Prompt("2", "en", "a blue dog", None)]
    row = ManifestRow("k", "s", 0, 1, "0" * 64, captions=(Caption("user", "en", "a RED cat"),))
    with pytest.raises(LeakError, match="a red cat"):
        refuse_leaked("longtext", prompts, [row])
    refuse_leaked("longtext", prompts[1:], [row])


def test_settings_that_contradict_each_other_are_refused() -> None:
    file = BenchmarkFile(path="x", sha256="0" * 64)
    for settings in ({"suites": ("dpg", "dpg")}, {"suites": ("human",)}, {"benchmarks": {"dpg": file}}):
        with pytest.raises(ValueError, match=r"suites|human|benchmarks"):
            EvaluationConfig.model_validate(settings)
