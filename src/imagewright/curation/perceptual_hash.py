"""The perceptual hash (64 bits) and thumbnail of an image: what near duplicates are found and confirmed by."""

from __future__ import annotations

import cv2
import numpy as np

HASH_SIDE = 8
HASH_INPUT_SIDE = 32
THUMBNAIL_SIDE = 12
THUMBNAIL_BYTES = THUMBNAIL_SIDE * THUMBNAIL_SIDE * 3


def dct_matrix(rows: int, size: int) -> np.ndarray:
    """The first `rows` basis vectors of the DCT-II over `size` points: [rows, size] float32."""
    n = np.arange(size)
    return np.cos(np.pi * np.arange(rows)[:, None] * (2 * n + 1) / (2 * size)).astype(np.float32)


BASIS = dct_matrix(HASH_SIDE, HASH_INPUT_SIDE)


def phash(squares: np.ndarray) -> np.ndarray:
    """64-bit pHash [N] uint64 of the 32 x 32 shrinks [N, 32, 32] uint8: signs about the median of the lowest 8 x 8 DCT coefficients.

    Same bits and order as imagehash.phash up to the shrink's filter (area here, Lanczos there) and a dead zone: symmetric pictures have
    many coefficients that are zero but for noise, so a bit needs a coefficient 1% of the largest above the median.
    """
    low = (BASIS @ squares.astype(np.float32) @ BASIS.T).reshape(len(squares), -1)
    dead_zone = 0.01 * np.abs(low[:, 1:]).max(axis=1, keepdims=True)
    bits = low > np.median(low, axis=1, keepdims=True) + dead_zone
    return np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64)


def hash_input(grey: np.ndarray) -> np.ndarray:
    """Grey pictures shrunk by area to the hash's input: [N, H, W] uint8 -> [N, 32, 32]."""
    return np.stack([cv2.resize(picture, (HASH_INPUT_SIDE, HASH_INPUT_SIDE), interpolation=cv2.INTER_AREA) for picture in grey])


def thumbnail(rgb: np.ndarray) -> bytes:
    """12 x 12 RGB area thumbnail of [H, W, 3] uint8, as 432 bytes."""
    return cv2.resize(rgb, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA).tobytes()


def thumbnail_difference(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and largest absolute difference of thumbnail pairs [P, 432] uint8 after the best common gain, each [P] float32.

    The gain (limited to 0.85..1.18) makes a slightly brighter or darker copy equal; colours stay apart.
    """
    a, b = first.astype(np.float32), second.astype(np.float32)
    gain = (a * b).sum(axis=1) / np.maximum(1.0, (b * b).sum(axis=1))
    gain = np.where((gain > 0.85) & (gain < 1.18), gain, 1.0)
    difference = np.abs(a - np.minimum(255.0, b * gain[:, None]))
    return difference.mean(axis=1), difference.max(axis=1)
