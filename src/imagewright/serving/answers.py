"""Finished images as an answer of the Images API: PNG with provenance inside, base64, JSON."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Sequence

from PIL import Image as PILImage
from PIL.PngImagePlugin import PngInfo

from imagewright.serving.champion import ModelVersion
from imagewright.serving.decoding import Image
from imagewright.serving.requests import CheckedRequest

PROVENANCE_KEY = "imagewright"


def answer_body(images: Sequence[Image], checked: CheckedRequest, version: ModelVersion, created: int) -> bytes:
    """JSON body with one entry per image; `revised_prompt` is the prompt that was drawn."""
    data = [
        {"b64_json": base64.b64encode(png(image, provenance(checked, version, index))).decode(), "revised_prompt": checked.prompt}
        for index, image in enumerate(images)
    ]
    return json.dumps({"created": created, "data": data}).encode()


def provenance(checked: CheckedRequest, version: ModelVersion, index: int) -> dict[str, object]:
    """Model, digest, seed and settings of image `index`, and the prompt's hash, never the prompt itself."""
    return {
        "model": version.name,
        "digest": version.digest,
        "seed": checked.seed + index,
        "steps": checked.num_steps,
        "guidance_scale": checked.guidance_scale,
        "prompt_sha256": hashlib.sha256(checked.prompt.encode("utf-8", "surrogatepass")).hexdigest(),
    }


def png(image: Image, facts: dict[str, object]) -> bytes:
    """PNG with the facts as one text chunk."""
    info = PngInfo()
    info.add_text(PROVENANCE_KEY, json.dumps(facts))
    buffer = io.BytesIO()
    PILImage.fromarray(image).save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()
