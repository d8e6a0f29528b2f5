"""Stage results in the store, so that work slices on different machines fill in for one another."""

from __future__ import annotations

from dataclasses import dataclass

from imagewright.storage import NameTaken, Store

PREFIX = "curation-results"


@dataclass(frozen=True)
class StoreResults:
    """Results under `curation-results/<stage>/<digest>.parquet`; a name's bytes never change."""

    store: Store

    def get(self, name: str) -> bytes | None:
        """Bytes under a name, or None."""
        found = self.store.get_named(f"{PREFIX}/{name}")
        return None if found is None else found.data

    def put(self, name: str, data: bytes) -> None:
        """Keeps bytes; another machine that was faster made the same ones."""
        try:
            self.store.put_named(f"{PREFIX}/{name}", data, if_absent=True)
        except NameTaken:
            return
