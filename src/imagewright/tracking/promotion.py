"""Promotion: an append-only log in the store decides who is champion; the MLflow alias follows it and is repaired from it.

Entry N+1 is written with put-if-absent and names the champion it was judged against, so of any number of promotions at once one takes
the slot and all others are judged again, against the new champion.
"""

from __future__ import annotations

import datetime
import json
import uuid
from dataclasses import asdict, dataclass
from typing import Literal, Protocol

from imagewright.config.gate import GateConfig
from imagewright.errors import Problem
from imagewright.storage import Store
from imagewright.tracking.gate import Verdict, judge
from imagewright.tracking.lineage_names import CHAMPION, ModelError
from imagewright.tracking.models import WEIGHTS, ModelRegistry, ModelVersion
from imagewright.tracking.promotion_log import PromotionEntry, PromotionLog
from imagewright.tracking.scores import Score

MAX_LOST_RACES = 1000


@dataclass(frozen=True)
class Decision:
    """What became of a promotion. entry: None when refused, already champion, or a dry run."""

    candidate: ModelVersion
    champion: PromotionEntry | None
    verdicts: tuple[Verdict, ...]
    entry: PromotionEntry | None
    already_champion: bool = False

    @property
    def passed(self) -> bool:
        return all(verdict.passed for verdict in self.verdicts)


class Rollout(Protocol):
    """What promotion asks of the servers."""

    def try_out(self, digest: str) -> Verdict:
        """Gives the version of this payload real requests, step by step; takes them back when it fails, and says which it was."""

    def withdraw(self) -> None:
        """Called when a version did not become champion: the stable servers have all requests."""

    def settle(self, digest: str) -> None:
        """Called when the version is champion: the stable servers take over from the canary."""


class Promoter:
    """Promotes, rolls back and repairs the models of one registry and one store."""

    def __init__(self, store: Store, registry: ModelRegistry, rollout: Rollout | None = None) -> None:
        """rollout: tries a version on the servers before it becomes champion, and ends the trial afterwards."""
        self._store, self._registry, self._rollout = store, registry, rollout

    def promote(
        self, candidate: ModelVersion, gate: GateConfig, *, dry_run: bool = False, approved_by: str = "", reason: str = ""
    ) -> Decision:
        """Judges and, when every verdict passes, makes `candidate` champion. A lost race is judged again against the winner."""
        decision: Decision | None = None
        try:
            decision = self._promote(candidate, gate, dry_run, approved_by, reason)
        finally:
            # Whatever kept it from becoming champion after its trial - a lost race, an error - it may not keep its requests.
            if self._rollout is not None and not dry_run and (decision is None or not decision.passed):
                self._rollout.withdraw()
        if self._rollout is not None and decision.entry is not None:
            self._rollout.settle(candidate.digest)
        return decision

    def _promote(self, candidate: ModelVersion, gate: GateConfig, dry_run: bool, approved_by: str, reason: str) -> Decision:
        log = PromotionLog(self._store, candidate.model)
        for _ in range(MAX_LOST_RACES):
            champion = log.last()
            if champion is not None and champion.digest == candidate.digest:
                if not dry_run:
                    self.repair(candidate.model)
                return Decision(candidate, champion, (), None, already_champion=True)
            scores = self._champion_scores(champion)
            verdicts = (self._judge_payload(candidate), *judge(gate, candidate.scores, scores, sorted(candidate.evidence), approved_by))
            decision = Decision(candidate, champion, verdicts, None)
            if dry_run or not decision.passed:
                return decision
            if self._rollout is not None:
                # The last judge is the traffic itself: only a version that served it is written into the log.
                verdicts = (*verdicts, self._rollout.try_out(candidate.digest))
                decision = Decision(candidate, champion, verdicts, None)
                if not decision.passed:
                    return decision
            evidence = self._store.put_bytes(evidence_bundle(candidate, champion, scores, gate, verdicts))
            entry = new_entry("promote", candidate, champion, verdicts, evidence=evidence, approved_by=approved_by, reason=reason)
            if log.append(entry):
                self.repair(candidate.model)
                return Decision(candidate, champion, verdicts, entry)
        raise ModelError(
            Problem(f"model {candidate.model}", f"lost {MAX_LOST_RACES} races in a row", None, "stop the other promotions and run again")
        )

    def rollback(self, model: str, to_version: int = 0, *, dry_run: bool = False, reason: str = "") -> PromotionEntry:
        """Makes an earlier champion champion again: the one before, or `to_version`. Nothing is judged but that its payload is there.

        Raises ModelError when there is nothing to go back to, or when somebody promoted in the meantime: then look before trying again.
        """
        log = PromotionLog(self._store, model)
        entries = log.entries()
        current = entries[-1] if entries else None
        earlier = [entry for entry in entries if current is not None and entry.digest != current.digest]
        if to_version:
            earlier = [entry for entry in earlier if entry.version == to_version]
        if current is None or not earlier:
            past = ", ".join(sorted({str(entry.version) for entry in entries})) or "none"
            raise ModelError(
                Problem(f"model {model}", "has no such earlier champion", to_version or None, f"versions that were champion: {past}")
            )
        # Rolling back twice goes back two champions: what a roll-back left is not what it returned to.
        target = earlier[-1] if to_version else previous_champion(entries)
        version = self._registry.get(model, str(target.version))
        verdict = self._judge_payload(version)
        if not verdict.passed or version.digest != target.digest:
            raise ModelError(
                Problem(str(version), f"cannot be served: {verdict.reason}", None, f"name another version with --to; entry {target.number}")
            )
        entry = new_entry("rollback", version, current, (verdict,), reason=reason)
        if dry_run:
            return entry
        if not log.append(entry):
            raise ModelError(
                Problem(f"model {model}", "was promoted by somebody else just now", None, "look at the log, then roll back again")
            )
        self.repair(model)
        return entry

    def repair(self, model: str) -> tuple[int | None, int | None]:
        """Points the alias `champion` at what the log says. Returns (version before, version now); (None, None) without a log."""
        log = PromotionLog(self._store, model)
        before = self._registry.alias(model, CHAMPION)
        while (last := log.last()) is not None:
            if self._registry.alias(model, CHAMPION) != last.version:
                self._registry.set_alias(model, CHAMPION, last.version)
            newest = log.last()
            # Somebody may have appended while we set the alias: theirs is the later word.
            if newest is not None and newest.number == last.number:
                return before, last.version
        return before, before

    def _judge_payload(self, candidate: ModelVersion) -> Verdict:
        if candidate.origin.form == WEIGHTS:
            reason = "it is a training job's weights, which no server loads: export-bundle makes a bundle, promote-model registers that"
            return Verdict(rule="payload", passed=False, reason=reason)
        there = self._store.exists(candidate.digest)
        reason = f"{candidate.uri} is complete in the store" if there else f"{candidate.uri} is not complete in {self._store.url}"
        return Verdict(rule="payload", passed=there, reason=reason)

    def _champion_scores(self, champion: PromotionEntry | None) -> dict[str, Score] | None:
        return None if champion is None else self._registry.get(champion.model, str(champion.version)).scores


def previous_champion(entries: list[PromotionEntry]) -> PromotionEntry:
    """Who was champion before the current one came to it first; roll-backs are undone by going further back, not to and fro."""
    stack: list[PromotionEntry] = []
    for entry in entries:
        if entry.action == "rollback":
            while stack and stack[-1].digest != entry.digest:
                stack.pop()
        if not stack or stack[-1].digest != entry.digest:
            stack.append(entry)
    if len(stack) < 2:
        raise ModelError(Problem(f"model {entries[-1].model}", "has no champion before this one", None, "name a version with --to"))
    return stack[-2]


def new_entry(
    action: Literal["promote", "rollback"],
    version: ModelVersion,
    champion: PromotionEntry | None,
    verdicts: tuple[Verdict, ...],
    *,
    evidence: str = "",
    approved_by: str = "",
    reason: str = "",
) -> PromotionEntry:
    """The entry that follows `champion`'s."""
    number = champion.number if champion else 0
    return PromotionEntry(
        id=uuid.uuid4().hex,
        model=version.model,
        number=number + 1,
        action=action,
        version=version.version,
        digest=version.digest,
        against_number=number,
        against_version=champion.version if champion else 0,
        against_digest=champion.digest if champion else "",
        verdicts=verdicts,
        evidence=evidence,
        approved_by=approved_by,
        reason=reason,
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def evidence_bundle(
    candidate: ModelVersion,
    champion: PromotionEntry | None,
    champion_scores: dict[str, Score] | None,
    gate: GateConfig,
    verdicts: tuple[Verdict, ...],
) -> bytes:
    """Everything the decision was made on, as one JSON document."""
    content = {
        "candidate": {"model": candidate.model, "version": candidate.version, "digest": candidate.digest},
        "origin": asdict(candidate.origin) | {"data": dict(candidate.origin.data)},
        "scores": {name: asdict(score) for name, score in candidate.scores.items()},
        "results": candidate.evidence,
        "champion": champion.model_dump(mode="json", exclude={"verdicts"}) if champion else None,
        "champion_scores": {name: asdict(score) for name, score in (champion_scores or {}).items()},
        "gate": gate.model_dump(mode="json"),
        "verdicts": [verdict.model_dump(mode="json") for verdict in verdicts],
    }
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False).encode()
