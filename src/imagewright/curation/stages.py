"""Which stages a configuration runs, in order; the order of the published data pipelines: cheap and certain first."""

from __future__ import annotations

from imagewright.config.curation import CurationConfig
from imagewright.curation.embedding import EfficientNetStage
from imagewright.curation.look import AestheticPayload, AestheticStage
from imagewright.curation.measure import MeasureStage
from imagewright.curation.ocr import OcrStage
from imagewright.curation.safety import SafetyStage
from imagewright.curation.stage import Stage
from imagewright.data.images import DecodeLimits


def stages_of(section: CurationConfig, scorer: AestheticPayload | None = None) -> list[Stage]:
    """Measure always; safety, OCR and ImageNet features when asked for; the aesthetic model where there is one."""
    limits = DecodeLimits(**section.decode.model_dump())
    stages: list[Stage] = [MeasureStage(limits)]
    if section.safety:
        stages.append(SafetyStage(limits, section.trusted_sources))
    if section.ocr:
        stages.append(OcrStage(limits))
    if section.taxonomy.embedding == "efficientnet_lite3":
        stages.append(EfficientNetStage(limits))
    if scorer is not None:
        stages.append(AestheticStage(limits, scorer))
    return stages
