"""A benchmark's own prompt files, read from a path the user gives and pinned by digest; bounded, and checked for leaks first."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from imagewright.config.evaluation import BenchmarkFile
from imagewright.data.manifest import ManifestRow
from imagewright.errors import InputError, Problem
from imagewright.evaluation.judges.questions import Question
from imagewright.evaluation.judges.verdicts import Prompt
from imagewright.evaluation.suites import LeakError, normal

MAX_FILE_BYTES = 64 << 20
MAX_PROMPTS = 100_000


class BenchmarkError(InputError):
    """A prompt file that cannot be used."""


def read_pinned(name: str, file: BenchmarkFile) -> str:
    """Text of a file whose SHA-256 must be the configured one. Raises BenchmarkError when it is missing, too large or another file."""
    key = f"evaluation.benchmarks.{name}"
    try:
        with Path(file.path).open("rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BenchmarkError(Problem(key, f"cannot be read: {error}", file.path, "give a UTF-8 file on this machine")) from error
    if len(data) > MAX_FILE_BYTES:
        raise BenchmarkError(Problem(key, f"must be smaller than {MAX_FILE_BYTES} bytes", file.path, "give the benchmark's prompt file"))
    found = hashlib.sha256(data).hexdigest()
    if found != file.sha256:
        raise BenchmarkError(Problem(f"{key}.sha256", "must be the digest of the file", file.sha256, f"it has {found}"))
    return text


def longtext_prompts(text: str, name: str) -> list[Prompt]:
    """LongText-Bench: one JSON object a line with `prompt` and `text` (one string, or all strings the image must show)."""
    found = []
    for number, row in json_lines(text, name):
        wanted = row.get("text")
        lines = [wanted] if isinstance(wanted, str) else wanted
        if not isinstance(row.get("prompt"), str) or not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise wrong_row(name, number, "needs the strings `prompt` and `text`", row)
        language = "zh" if any("\u4e00" <= character <= "\u9fff" for line in lines for character in line) else "en"
        found.append(Prompt(f"{name}-{number}", language, row["prompt"], "\n".join(lines)))
    return found


def dpg_prompts(text: str, name: str) -> list[Prompt]:
    """DPG-Bench's CSV: a row a question with item_id, text, proposition_id, dependency and question_natural_language."""
    needed = {"item_id", "text", "proposition_id", "dependency", "question_natural_language"}
    reader = csv.DictReader(io.StringIO(text))
    if not needed <= set(reader.fieldnames or ()):
        raise BenchmarkError(Problem(f"evaluation.benchmarks.{name}", f"needs the columns {', '.join(sorted(needed))}", reader.fieldnames))
    texts: dict[str, str] = {}
    questions: dict[str, list[Question]] = {}
    for row in reader:
        item = str(row["item_id"])
        texts.setdefault(item, str(row["text"]))
        parents = tuple(part.strip() for part in str(row["dependency"]).split(",") if part.strip() not in ("", "0"))
        questions.setdefault(item, []).append(Question(str(row["proposition_id"]).strip(), str(row["question_natural_language"]), parents))
    return [Prompt(f"{name}-{item}", "dense", texts[item], tuple(asked)) for item, asked in questions.items()]


def oneig_prompts(text: str, name: str) -> list[Prompt]:
    """One JSON object a line: `dimension`, `prompt`, and what judges it - `questions`, `text`, `answer` or `style`.

    OneIG-Bench spreads these over several files; this is their join. A diversity prompt needs nothing but itself.
    """
    found = []
    for number, row in json_lines(text, name):
        task, prompt = row.get("dimension"), row.get("prompt")
        truth: Any = None
        if task in ("alignment", "reasoning"):
            truth = questions_of(row.get("questions"), name, number)
        elif task in ("text", "style"):
            truth = row.get(task)
        if task not in ("alignment", "text", "reasoning", "style", "diversity") or not isinstance(prompt, str):
            raise wrong_row(name, number, "needs `prompt` and one of the five dimensions", row)
        if task in ("text", "style") and not isinstance(truth, str):
            raise wrong_row(name, number, f"needs the string `{task}`", row)
        found.append(Prompt(f"{name}-{number}", str(task), prompt, truth))
    return found


def questions_of(tree: Any, name: str, number: int) -> tuple[Question, ...]:
    """Questions of a row: objects with `key`, `text` and, where they depend on others, `parents`."""
    try:
        return tuple(Question(str(item["key"]), str(item["text"]), tuple(map(str, item.get("parents", ())))) for item in tree)
    except (TypeError, KeyError, AttributeError) as error:
        raise wrong_row(name, number, "needs `questions` with `key` and `text`", tree) from error


def json_lines(text: str, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Objects of a JSON Lines text with their line numbers, at most MAX_PROMPTS."""
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        if number > MAX_PROMPTS:
            raise BenchmarkError(Problem(f"evaluation.benchmarks.{name}", f"must have at most {MAX_PROMPTS} lines", None, "split the file"))
        try:
            row = json.loads(line)
        except ValueError as error:
            raise wrong_row(name, number, f"is no JSON: {error}", line[:80]) from error
        if not isinstance(row, dict):
            raise wrong_row(name, number, "must be a JSON object", row)
        yield number, row


def wrong_row(name: str, number: int, rule: str, received: object) -> BenchmarkError:
    """One line that is not what its benchmark says."""
    return BenchmarkError(Problem(f"evaluation.benchmarks.{name}, line {number}", rule, str(received)[:200], "give the benchmark's file"))


def refuse_leaked(name: str, prompts: Sequence[Prompt], training: Iterable[ManifestRow]) -> None:
    """Raises LeakError when a prompt of a benchmark is a caption of a training sample."""
    wanted = {normal(prompt.text) for prompt in prompts}
    leaked = sorted({text for row in training for caption in row.captions if (text := normal(caption.text)) in wanted})
    if leaked:
        fix = "drop these samples from training, or do not report this benchmark"
        raise LeakError(Problem(f"evaluation.{name}", "must not occur in the training captions", leaked[:5], fix))
