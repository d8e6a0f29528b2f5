"""Fixed-seed picture grids: one row per prompt, one column per model, so that stages are compared on the same noise."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imagewright.errors import InputError, Problem

GAP_PX = 2
MIN_CELL_PX = 64
MAX_CELL_PX = 128


def write_grid(columns: Sequence[Sequence[NDArray[np.uint8]]], path: Path) -> None:
    """Writes images[column][row] [H, W, 3] as one PNG; small pictures are enlarged by a whole factor without smoothing.

    Pictures of several sizes keep their aspects, each in the middle of its cell.
    """
    rows = len(columns[0])
    assert all(len(column) == rows for column in columns), "every model paints every prompt of the grid"
    cell = cell_size(max(max(image.shape[:2]) for column in columns for image in column))
    step = cell + GAP_PX
    sheet = Image.new("RGB", (len(columns) * step - GAP_PX, rows * step - GAP_PX), (255, 255, 255))
    for x, column in enumerate(columns):
        for y, image in enumerate(column):
            fitted = fit(image, cell)
            sheet.paste(fitted, (x * step + (cell - fitted.width) // 2, y * step + (cell - fitted.height) // 2))
    sheet.save(path, "PNG", optimize=True)


def fit(image: NDArray[np.uint8], cell_px: int) -> Image.Image:
    """The picture [H, W, 3] with its longer side at cell_px, or at the largest whole multiple of its own size below that."""
    height, width = image.shape[:2]
    longest = max(height, width)
    if longest <= cell_px:
        factor = cell_px // longest
        return Image.fromarray(image).resize((width * factor, height * factor), Image.Resampling.NEAREST)
    size = (max(1, round(width * cell_px / longest)), max(1, round(height * cell_px / longest)))
    return Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)


def cell_size(side_px: int) -> int:
    """Side of one cell of a grid of images of side_px."""
    return min(MAX_CELL_PX, max(side_px, side_px * -(-MIN_CELL_PX // side_px)))


def cut_cells(png: bytes, columns: int, rows: int, side_px: int) -> list[list[Image.Image]]:
    """Pictures [row][column] of a grid that write_grid made of images of side_px; enlarged ones come back at their own size.

    Raises InputError when the bytes are no PNG of that many cells.
    """
    cell = cell_size(side_px)
    step = cell + GAP_PX
    expected = (columns * step - GAP_PX, rows * step - GAP_PX)
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as opened:
            found = opened.size
            sheet = opened.convert("RGB") if found == expected else None
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(Problem("grid", f"is no PNG: {error}", len(png), "evaluate again")) from error
    if sheet is None:
        raise InputError(Problem("grid", f"must be {expected[0]} x {expected[1]} px", f"{found[0]} x {found[1]}", "evaluate again"))
    shrink = cell // side_px if cell % side_px == 0 else 1
    boxes = [[(x * step, y * step, x * step + cell, y * step + cell) for x in range(columns)] for y in range(rows)]
    return [[sheet.crop(box).resize((cell // shrink, cell // shrink), Image.Resampling.NEAREST) for box in row] for row in boxes]
