"""Which bundle is served: loads it, proves it on a golden image, and swaps it for the next champion without dropping a request."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from imagewright.config.serving import ServingConfig
from imagewright.serving.bundle import Bundle, load_bundle
from imagewright.serving.denoising import ImageRequest
from imagewright.serving.engine import Engine
from imagewright.serving.enhancer import Enhancer, open_enhancer
from imagewright.serving.golden import check_golden, golden_request, image_sha256
from imagewright.serving.prompts import PromptEncoder

LOG = logging.getLogger(__name__)
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
    prompts: PromptEncoder
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
            threading.Thread(target=retire, args=(old, None), name="drain", daemon=True).start()
        return True

    def load(self, version: ModelVersion) -> Served:
        """Loads a version and draws its golden image. Refuses a flat picture, and one that differs from what the bundle was exported with.

        Whatever fails, nothing of the refused version stays behind.
        """
        device = serving_device(self.config.device)
        dtype = None if self.config.dtype == "stored" else getattr(torch, self.config.dtype)
        bundle = load_bundle(version.folder, device, dtype)
        engine = Engine(
            bundle,
            max_queue=self.config.max_queue,
            max_batch_tokens=self.config.max_batch_tokens,
            num_workers=self.config.num_workers or default_workers(device),
            on_done=self.on_done,
        )
        try:
            golden = engine.submit([golden_request(bundle)])[0].result(GOLDEN_SECONDS)
            check_golden(version.folder, golden)
        except Exception:
            engine.drain(0.0)
            raise
        encoder = bundle.text_encoder
        enhancer = open_enhancer(version.folder, self.config.enhancer, encoder.count_tokens, encoder.max_tokens)
        prompts = PromptEncoder(encoder.encode, self.config.prompt_cache_bytes)
        return Served(version, bundle, engine, prompts, image_sha256(golden), int(time.time()), enhancer)

    def watch(self) -> None:
        """Polls for a new champion until `stop` is set; runs in a thread of its own."""
        while not self.stop.wait(self.config.poll_seconds):
            self.refresh()

    def drain(self, timeout_seconds: float) -> bool:
        """Ends the watch and lets the current engine finish."""
        self.stop.set()
        return self.current is None or retire(self.current, timeout_seconds)


def retire(served: Served, timeout_seconds: float | None) -> bool:
    """Lets a version finish what it promised, then ends its threads; True when that was done in time."""
    if served.enhancer is not None:
        served.enhancer.close()
    drained = served.engine.drain(timeout_seconds)
    served.prompts.close()
    return drained


def serving_device(name: str) -> str:
    """`auto` is the GPU where there is one."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def default_workers(device: str) -> int:
    """One on a GPU; on a CPU as many as torch's own threads leave room for."""
    return 1 if device != "cpu" else max(1, len(os.sched_getaffinity(0)) // torch.get_num_threads())
