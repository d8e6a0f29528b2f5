"""Grids are written for eyes and cut again for pages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from imagewright.errors import InputError
from imagewright.evaluation.grid import cell_size, cut_cells, write_grid


def test_cells_come_back_as_they_were_painted(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32, 3), dtype=np.uint8)
    write_grid([list(column) for column in images], tmp_path / "grid.png")
    cells = cut_cells((tmp_path / "grid.png").read_bytes(), columns=2, rows=3, side_px=32)
    assert cell_size(32) == 64
    assert all(np.array_equal(np.asarray(cells[y][x]), images[x][y]) for x in range(2) for y in range(3))


def test_large_pictures_keep_the_size_of_their_cell(tmp_path: Path) -> None:
    write_grid([[np.zeros((300, 300, 3), np.uint8)]], tmp_path / "grid.png")
    assert cut_cells((tmp_path / "grid.png").read_bytes(), 1, 1, 300)[0][0].size == (128, 128)


def test_bytes_that_are_no_such_grid_are_refused(tmp_path: Path) -> None:
    write_grid([[np.zeros((32, 32, 3), np.uint8)]], tmp_path / "grid.png")
    with pytest.raises(InputError, match=r"must be 130 x 64 px"):
        cut_cells((tmp_path / "grid.png").read_bytes(), columns=2, rows=1, side_px=32)
    with pytest.raises(InputError, match="is no PNG"):
        cut_cells(b"\x89PNG\r\n", columns=1, rows=1, side_px=32)
