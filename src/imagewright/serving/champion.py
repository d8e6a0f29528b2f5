"""Which bundle is served: loads it, proves it on a golden image, and swaps it for the next champion without dropping a request."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imagewright.config.serving import ServingConfig
from imagewright.serving.bundle import Bundle, empty_prompt, load_bundle
from imagewright.serving.engine import Engine, Image, ImageRequest
from imagewright.serving.enhancer import Enhancer, open_enhancer

LOG = logging.getLogger(__name__)
GOLDEN_PROMPT = "a red circle"
GOLDEN_SECONDS = 600.0


@dataclass(frozen=True)
class ModelVersion:
    """What is served: its name (`turbo@7`, or a folder's name), its digest and where its files are."""

    name: str
    digest: str
    folder: Path


@dataclass(frozen=True)
class Served:
    """A loaded version with its engine and the digest of its golden image."""

    version: ModelVersion
    bundle: Bundle
    engine: Engine
    golden_sha256: str
    created: int
    enhancer: Enhancer | None = None


FindChampion = Callable[[], ModelVersion]
"""Returns the version to serve now; raises when the registry cannot be asked or the payload is gone or changed."""


class Champion:
    """Holds the served version. Requests take `current` once and finish on it, whatever is swapped in meanwhile."""

    def __init__(self, find: FindChampion, config: ServingConfig, on_done: Callable[[ImageRequest, float], None] | None = None) -> None:
        self.find, self.config, self.on_done = find, config, on_done
        self.current: Served | None = None
        self.last_error = ""
        self.num_swaps = 0
        self.stop = threading.Event()
        self.lock = threading.Lock()

    def refresh(self) -> bool:
        """Loads the champion when it changed; True when something was swapped in. The old one keeps serving if anything fails."""
        with self.lock:
            try:
                version = self.find()
                if self.current is not None and version.digest == self.current.version.digest:
                    self.last_error = ""
                    return False
                served = self.load(version)
            except Exception as error:  # an unreachable registry or a broken payload must never take the old champion down
                self.last_error = f"{type(error).__name__}: {error}"
                LOG.warning("keeping the served model: %s", self.last_error)
                return False
            old, self.current, self.last_error = self.current, served, ""
        self.num_swaps += old is not None
        if old is not None:
            if old.enhancer is not None:
                old.enhancer.close()
            threading.Thread(target=old.engine.drain, name="drain", daemon=True).start()
        return True

    def load(self, version: ModelVersion) -> Served:
        """Loads a version and draws its golden image; a model that yields anything but finite pixels is refused."""
        bundle = load_bundle(version.folder)
        engine = Engine(bundle, max_queue=self.config.max_queue, max_batch_tokens=self.config.max_batch_tokens, on_done=self.on_done)
        golden = engine.submit([golden_request(bundle)])[0].result(GOLDEN_SECONDS)
        encoder = bundle.text_encoder
        enhancer = open_enhancer(version.folder, self.config.enhancer, encoder.count_tokens, encoder.max_tokens)
        return Served(version, bundle, engine, image_sha256(golden), int(time.time()), enhancer)

    def watch(self) -> None:
        """Polls for a new champion until `stop` is set; runs in a thread of its own."""
        while not self.stop.wait(self.config.poll_seconds):
            self.refresh()

    def drain(self, timeout_seconds: float) -> bool:
        """Ends the watch and lets the current engine finish."""
        self.stop.set()
        return self.current is None or self.current.engine.drain(timeout_seconds)


def golden_request(bundle: Bundle) -> ImageRequest:
    """The one image drawn when a version is loaded: same prompt, seed and settings every time."""
    side = bundle.defaults.size_px
    return ImageRequest(
        prompt_embeds=bundle.text_encoder.encode([GOLDEN_PROMPT])[0],
        negative_embeds=empty_prompt(bundle),
        size_px=(side, side),
        seed=0,
        num_steps=bundle.defaults.num_steps,
        guidance_scale=bundle.defaults.guidance_scale,
    )


def image_sha256(image: Image) -> str:
    """SHA-256 of an image's pixels. Raises ValueError for a constant image, which is what NaN latents decode to."""
    if image.min() == image.max():
        raise ValueError("the golden image is one flat colour: the model is broken")
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()
