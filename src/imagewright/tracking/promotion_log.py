"""The promotion log: who is champion, as append-only entries in the store. It asks no tracking server and imports nothing heavy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationError

from imagewright.config.base import Section
from imagewright.errors import Problem
from imagewright.storage import NameTaken, Store
from imagewright.storage.moved import refuse_moved
from imagewright.storage.records import Record
from imagewright.tracking.gate import Verdict
from imagewright.tracking.lineage_names import ModelError, check_model


class PromotionEntry(Section):
    """One line of a model's promotion log."""

    schema_version: Literal[1] = 1
    id: str
    """Random; tells a writer whose answer got lost that the entry is its own."""
    model: str
    number: int = Field(ge=1)
    action: Literal["promote", "rollback"]
    version: int = Field(ge=1)
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    against_number: int = Field(ge=0)
    """Entry whose champion this one was judged against; 0 when there was none."""
    against_version: int = Field(ge=0)
    against_digest: str
    verdicts: tuple[Verdict, ...] = ()
    evidence: str = ""
    """Digest of the evidence bundle in the store: scores of both, gate, verdicts, digests of the results."""
    approved_by: str = ""
    reason: str = ""
    created_at: str


class PromotionLog:
    """The log of one model: `promotions/<model>/<N>.json`, N from 1 without gaps."""

    def __init__(self, store: Store, model: str) -> None:
        check_model(model)
        self._store, self._model, self._prefix = store, model, f"promotions/{model}/"

    def last(self) -> PromotionEntry | None:
        """The entry that says who is champion."""
        numbers = self._numbers()
        number = max(numbers, default=0)
        # A listing may lag behind a write; a read of the next name does not.
        while (entry := self.read(number + 1)) is not None:
            number = entry.number
        return self.read(number) if number else None

    def read(self, number: int) -> PromotionEntry | None:
        """Entry `number`, or None. Raises ModelError for one that is no entry."""
        name = f"{self._prefix}{number}.json"
        found = self._store.get_named(name)
        if found is None:
            return None
        fix = "restore this object from a backup of the store"
        try:
            entry = PromotionEntry.model_validate_json(found.data, strict=True)
        except ValidationError as error:
            detail = error.errors(include_url=False)[0]["msg"]
            raise ModelError(Problem(name, f"is not a promotion entry: {detail}", None, fix)) from error
        if (entry.number, entry.model) != (number, self._model):
            raise ModelError(Problem(name, "holds an entry of another place", f"{entry.model} {entry.number}", fix))
        return entry

    def entries(self) -> list[PromotionEntry]:
        """The whole log, oldest first. Raises ModelError when an entry is missing."""
        last = self.last()
        found = [self.read(number) for number in range(1, (last.number if last else 0) + 1)]
        gaps = [str(number) for number, entry in enumerate(found, start=1) if entry is None]
        if gaps:
            raise ModelError(Problem(self._prefix, f"misses entries {', '.join(gaps)}", None, "restore them from a backup of the store"))
        return [entry for entry in found if entry is not None]

    def append(self, entry: PromotionEntry) -> bool:
        """Writes entry N if nobody wrote one; False when the slot is taken."""
        name = f"{self._prefix}{entry.number}.json"
        refuse_moved(self._store)
        try:
            self._store.put_named(name, entry.model_dump_json(indent=2).encode(), if_absent=True)
        except NameTaken:
            written = self.read(entry.number)
            return written is not None and written.id == entry.id
        return True

    def _numbers(self) -> list[int]:
        names = (name.removeprefix(self._prefix).removesuffix(".json") for name in self._store.list_named(self._prefix))
        return [int(name) for name in names if name.isdigit()]


def champion_record(store: Store, model: str) -> Record | None:
    """The champion's payload as an input of a job; None when nothing was promoted yet."""
    entry = PromotionLog(store, model).last()
    return None if entry is None else Record(job="import", kind="model", digest=entry.digest, revision=f"{model}@{entry.version}")
