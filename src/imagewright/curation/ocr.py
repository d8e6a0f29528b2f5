"""Stage ocr: visible text, read by the packaged RapidOCR models where text-like strokes are seen (0.25 s an image)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import cv2
import numpy as np
import pyarrow as pa

from imagewright.curation.quality import grey_of, text_coverage
from imagewright.curation.stage import Partition, Resources
from imagewright.data.images import DEFAULT_LIMITS, DecodeLimits
from imagewright.data.shards import ShardReader

# Seen on 80 pictures without text: 21 false readings, every one of one or two characters.
MIN_CONFIDENCE = 0.8
MIN_CHARS = 2
MIN_COVERAGE = 0.03
READ_SIDE_PX = 512


@dataclass(frozen=True)
class OcrStage:
    """Reads text in English and Chinese; writes lines top to bottom, or an empty text."""

    limits: DecodeLimits = DEFAULT_LIMITS

    name: ClassVar[str] = "ocr"
    version: ClassVar[int] = 1
    inputs: ClassVar[tuple[str, ...]] = ()
    outputs: ClassVar[Mapping[str, pa.DataType]] = {"ocr_text": pa.string(), "score_ocr_confidence": pa.float32()}
    resources: ClassVar[Resources] = Resources(cpus=1, memory_mib=1024)

    def run(self, partition: Partition) -> dict[str, list[Any]]:
        """Text and mean confidence of one partition; empty and null where nothing is read."""
        texts: list[str] = []
        confidences: list[float | None] = []
        with ShardReader(partition.shards_folder) as reader:
            for rgb in partition.pictures(reader, self.limits):
                worth_reading = rgb is not None and text_coverage(grey_of(rgb[None]))[0] >= MIN_COVERAGE
                text, confidence = read_text(rgb) if rgb is not None and worth_reading else ("", None)
                texts.append(text)
                confidences.append(confidence)
        return {"ocr_text": texts, "score_ocr_confidence": confidences}


def read_text(rgb: np.ndarray) -> tuple[str, float | None]:
    """Lines of text in RGB [H, W, 3], joined by newlines, and their mean confidence."""
    scale = READ_SIDE_PX / max(rgb.shape[:2])
    if scale > 1:
        rgb = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    found = reader_model()(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    if found.txts is None:
        return "", None
    boxes = np.asarray(found.boxes)
    order = np.argsort(boxes[:, :, 1].mean(axis=1), kind="stable")
    lines = [(found.txts[i].strip(), float(found.scores[i])) for i in order]
    sure = [(text, confidence) for text, confidence in lines if confidence >= MIN_CONFIDENCE and len(text) >= MIN_CHARS]
    if not sure:
        return "", None
    return "\n".join(text for text, _ in sure), float(np.mean([confidence for _, confidence in sure]))


@lru_cache(maxsize=1)
def reader_model() -> Any:
    """The OCR engine on one thread, loaded once per process."""
    from rapidocr import RapidOCR

    logging.getLogger("RapidOCR").setLevel(logging.ERROR)
    return RapidOCR(params={"EngineConfig.onnxruntime.intra_op_num_threads": 1, "Global.log_level": "error"})
