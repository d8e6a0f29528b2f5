"""What a suite is, and how verdicts become its scores: per prompt, then per task with intervals, then a total where all tasks count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from imagewright.evaluation.judges.verdicts import MAX_FAILED_SHARE, Judge, Pixels, Prompt, SetJudge, Tally, judge_prompts
from imagewright.evaluation.results import Score, SuiteCard
from imagewright.evaluation.statistics import bootstrap, bootstrap_groups


@dataclass(frozen=True)
class Suite:
    """Prompts by task with a judge for each task. A task of `tasks` without a judge was refused; the card says why."""

    name: str
    tasks: tuple[str, ...]
    prompts: tuple[Prompt, ...]
    card: SuiteCard
    judges: Mapping[str, Judge] = field(default_factory=dict)
    set_judges: Mapping[str, SetJudge] = field(default_factory=dict)

    def judged_prompts(self) -> tuple[Prompt, ...]:
        """Prompts that somebody can judge: the only ones worth painting."""
        return tuple(prompt for prompt in self.prompts if prompt.task in self.judges or prompt.task in self.set_judges)


@dataclass(frozen=True)
class SuiteVerdicts:
    """What the judges of a suite said of one model."""

    per_prompt: dict[str, float]
    tallies: dict[str, Tally]

    def failed(self) -> dict[str, int]:
        """Verdicts that are none, by reason."""
        found: dict[str, int] = {}
        for tally in self.tallies.values():
            for reason, count in tally.failed.items():
                found[reason] = found.get(reason, 0) + count
        return found


def judge_suite(suite: Suite, images: Pixels, copies: int) -> SuiteVerdicts:
    """Judges images [P * copies, H, W, 3] of the suite's judged prompts, in their order."""
    prompts = suite.judged_prompts()
    per_prompt: dict[str, float] = {}
    tallies: dict[str, Tally] = {}
    for task in suite.tasks:
        places = [index for index, prompt in enumerate(prompts) if prompt.task == task]
        if not places:
            continue
        tally = tallies.setdefault(task, Tally())
        mine = images[[place * copies + copy for place in places for copy in range(copies)]]
        chosen = [prompts[place] for place in places]
        per_prompt |= judge_prompts(suite.judges.get(task), suite.set_judges.get(task), mine, chosen, copies, tally)
    return SuiteVerdicts(per_prompt, tallies)


def score_suite(suite: Suite, verdicts: SuiteVerdicts, copies: int, resamples: int) -> list[Score]:
    """Score of every task whose judge gave enough verdicts, and `overall` (their unweighted mean) when no task is missing."""
    groups: dict[str, list[float]] = {}
    for task in suite.tasks:
        values = [verdicts.per_prompt[p.prompt_id] for p in suite.judged_prompts() if p.task == task and p.prompt_id in verdicts.per_prompt]
        if values and verdicts.tallies[task].failed_share <= MAX_FAILED_SHARE:
            groups[task] = values
    scores = [score_of(suite.name, task, values, copies, resamples) for task, values in groups.items()]
    if len(suite.tasks) > 1 and set(groups) == set(suite.tasks):
        total = sum(map(len, groups.values()))
        interval = asdict(bootstrap_groups(groups, resamples))
        scores.append(Score(suite=suite.name, split="", task="overall", num_prompts=total, num_images=total * copies, **interval))
    return scores


def score_of(suite: str, task: str, values: Sequence[float], copies: int, resamples: int) -> Score:
    """Mean of per-prompt scores with its interval."""
    interval = asdict(bootstrap(values, resamples))
    return Score(suite=suite, split="", task=task, num_prompts=len(values), num_images=len(values) * copies, **interval)


def suite_card(suite: str, prompts: Sequence[Prompt], source: str, note: str = "") -> SuiteCard:
    """A card without judges yet."""
    return SuiteCard(suite=suite, source=source, prompts={prompt.prompt_id: prompt.text for prompt in prompts}, note=note)
