"""Section `serving`: the bundle's sampler and the limits of the image server."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from imagewright.config.base import Section


class EnhancerServiceConfig(Section):
    """How requests with `enhancer: true` have their prompts expanded. Whatever fails here, the request goes on with its own prompt."""

    kind: Literal["bundle", "openai", "off"] = "bundle"
    """bundle: the model in the bundle's `pe/`, where it has one. openai: an OpenAI-compatible chat endpoint. off: never."""
    endpoint: str = Field(default="", pattern=r"^(https?://\S+)?$")
    """Base URL of the endpoint, such as http://host:8000/v1; its key is read from OPENAI_API_KEY."""
    model: str = ""
    """Model name sent to the endpoint."""
    timeout_seconds: float = Field(default=20.0, gt=0.0, le=600.0)
    """Longest wait for an expanded prompt."""
    max_new_tokens: int = Field(default=256, ge=8, le=8192)
    """Tokens generated at most; the bundle's own bound holds where it is lower."""
    max_prompt_chars: int = Field(default=2000, ge=1, le=100_000)
    """Longer prompts are detailed enough and pass as they are."""
    max_waiting: int = Field(default=8, ge=1, le=10_000)
    """Prompts waiting or running; one beyond passes as it is."""
    cache_entries: int = Field(default=4096, ge=0, le=1_000_000)
    """Expanded prompts remembered; 0 remembers none."""

    @model_validator(mode="after")
    def endpoint_fits_kind(self) -> Self:
        """Refuses an endpoint that would be ignored, or a missing one."""
        if (self.kind == "openai") != bool(self.endpoint):
            raise ValueError("endpoint must be given with kind openai, and with no other")
        return self


class ServingConfig(Section):
    """How a champion is bundled and served."""

    num_steps: int = Field(default=8, ge=1, le=200)
    """Sampling steps of a request that names none (8 for turbo, 50 for a base model)."""
    guidance_scale: float = Field(default=1.0, ge=1.0, le=30.0)
    """Guidance of a request that names none; 1 means one pass per step."""
    shift: float = Field(default=4.0, gt=0.0, le=20.0)
    """Static shift of the exported scheduler (4.0 in the released models)."""
    default_size_px: int = Field(default=32, ge=8, le=4096)
    """Side of a request that names no size."""
    max_size_px: int = Field(default=2048, ge=8, le=8192)
    """Largest side of a request."""
    max_images: int = Field(default=10, ge=1, le=100)
    """Largest `n` of a request (10 in OpenAI's API)."""
    max_steps: int = Field(default=100, ge=1, le=1000)
    """Most sampling steps of a request."""
    max_prompt_chars: int = Field(default=32_000, ge=1, le=100_000)
    """Longest prompt (32,000 in OpenAI's API)."""
    max_body_bytes: int = Field(default=1 << 20, ge=1024, le=1 << 26)
    """Largest request body; more is refused before it is read."""
    max_queue: int = Field(default=64, ge=1, le=100_000)
    """Images waiting or running; a request beyond is answered 429 at once. Lower keeps every answer fast, higher fills the machine."""
    max_batch_tokens: int = Field(default=16_384, ge=1)
    """Image and text tokens of one packed forward pass; guided images count twice."""
    num_workers: int = Field(default=0, ge=0, le=1024)
    """Threads that draw, each a pack of its own; 0 is one on a GPU and one for every OMP_NUM_THREADS cores on a CPU."""
    dtype: Literal["stored", "float32", "bfloat16"] = "stored"
    """Number format of transformer, VAE and text encoder; `stored` takes the transformer's, as it lies in the bundle."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where images are made; auto takes the GPU where there is one."""
    prompt_cache_bytes: int = Field(default=1 << 28, ge=0, le=1 << 40)
    """Memory for remembered prompt embeddings."""
    client_seconds: float = Field(default=30.0, gt=0.0, le=3600.0)
    """Longest a client may take to send its headers, to send its body, or to take a part of the answer; then it is cut off."""
    max_connections: int = Field(default=2048, ge=1, le=100_000)
    """Open connections and unfinished requests; beyond, a request is answered 503."""
    poll_seconds: float = Field(default=2.0, gt=0.0, le=3600.0)
    """How often the server looks for a new champion."""
    enhancer: EnhancerServiceConfig = EnhancerServiceConfig()
    """Expansion of short prompts."""
