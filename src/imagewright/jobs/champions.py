"""Inputs that a job finds by alias: the champion of a registered model stands in where none is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imagewright.config import Config
    from imagewright.storage import Store
    from imagewright.storage.records import Record

AES = "aes"


def aes_champion(wanted: Callable[[Config], bool]) -> Callable[[Config, Store], Mapping[str, Record]]:
    """`Job.implied`: the aesthetic model `aes@champion` as the input `aes`, where the configuration wants one and one was promoted."""

    def implied(config: Config, store: Store) -> Mapping[str, Record]:
        from imagewright.tracking.promotion_log import champion_record

        champion = champion_record(store, AES) if wanted(config) else None
        return {} if champion is None else {AES: champion}

    return implied
