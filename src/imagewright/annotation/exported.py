"""Reads a table that an export of votes wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from imagewright.errors import InputError, Problem

MAX_TABLE_BYTES = 256 << 20


def read_rows(path: Path, fix: str) -> Sequence[Mapping[str, object]]:
    """Rows of an exported table. Raises InputError, with `fix`, when it is missing, too large or no table."""
    try:
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise ValueError(f"it is larger than {MAX_TABLE_BYTES} bytes")
        rows: list[dict[str, object]] = pq.read_table(path).to_pylist()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(Problem("votes", f"cannot be read: {error}", path.name, fix)) from error
    return rows
