"""The OpenAI Images request, with our sampler settings beside it, checked before anything is computed."""

from __future__ import annotations

import re
import secrets
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from imagewright.config.serving import ServingConfig
from imagewright.serving.bundle import SamplerDefaults

MAX_SEED = 2**63 - 1


class ApiError(Exception):
    """An error in OpenAI's shape: HTTP status, message, type, parameter and code."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        kind: str = "invalid_request_error",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.headers = headers
        self.status, self.message, self.param, self.code, self.kind = status, message, param, code, kind

    def body(self) -> dict[str, Any]:
        """JSON body of the answer."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


class GenerationRequest(BaseModel):
    """Body of POST /v1/images/generations. Unknown fields are ignored, as OpenAI's own server ignores what a model does not use."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)

    prompt: str
    model: str | None = None
    n: int | None = 1
    size: str | None = None
    response_format: Literal["b64_json"] | None = None
    user: str | None = Field(default=None, max_length=512)
    seed: int | None = Field(default=None, ge=0, le=MAX_SEED)
    steps: int | None = Field(default=None, ge=1)
    guidance_scale: float | None = Field(default=None, ge=1.0, le=30.0)
    negative_prompt: str = ""
    enhancer: bool = True


class CheckedRequest(BaseModel):
    """A request with every default filled in."""

    model_config = ConfigDict(frozen=True)

    prompt: str
    negative_prompt: str
    num_images: int
    size_px: tuple[int, int]
    seed: int
    num_steps: int
    guidance_scale: float
    enhancer: bool


def parse_request(body: bytes) -> GenerationRequest:
    """Parses a request body. Raises ApiError naming the first wrong parameter."""
    try:
        return GenerationRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        param = ".".join(str(part) for part in first["loc"]) or None
        raise ApiError(400, f"{param or 'body'}: {first['msg']}", param=param, code="invalid_value") from error


def check_request(request: GenerationRequest, config: ServingConfig, defaults: SamplerDefaults, stride: int) -> CheckedRequest:
    """Fills in defaults and checks limits. Raises ApiError (400) with the parameter and what is allowed."""
    if not request.prompt.strip():
        raise ApiError(400, "prompt must not be empty", param="prompt", code="invalid_value")
    for name, text in (("prompt", request.prompt), ("negative_prompt", request.negative_prompt)):
        if len(text) > config.max_prompt_chars:
            raise ApiError(400, f"{name} must be at most {config.max_prompt_chars} characters", param=name, code="string_above_max_length")
    count = 1 if request.n is None else request.n
    if not 1 <= count <= config.max_images:
        raise ApiError(400, f"n must be between 1 and {config.max_images}", param="n", code="invalid_value")
    steps = request.steps or defaults.num_steps
    if steps > config.max_steps:
        raise ApiError(400, f"steps must be at most {config.max_steps}", param="steps", code="invalid_value")
    return CheckedRequest(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        num_images=count,
        size_px=parse_size(request.size, config, defaults, stride),
        seed=secrets.randbelow(2**31) if request.seed is None else request.seed,
        num_steps=steps,
        guidance_scale=defaults.guidance_scale if request.guidance_scale is None else request.guidance_scale,
        enhancer=request.enhancer,
    )


def parse_size(size: str | None, config: ServingConfig, defaults: SamplerDefaults, stride: int) -> tuple[int, int]:
    """`WIDTHxHEIGHT`, `auto` or nothing -> (width, height) in pixels."""
    if size is None or size == "auto":
        return defaults.size_px, defaults.size_px
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", size)
    if match is None:
        raise ApiError(400, "size must look like 1024x1024 (width x height)", param="size", code="invalid_value")
    width, height = int(match[1]), int(match[2])
    for side in (width, height):
        if side % stride or not stride <= side <= config.max_size_px:
            rule = f"size must be multiples of {stride} between {stride} and {config.max_size_px}"
            raise ApiError(400, rule, param="size", code="invalid_value")
    return width, height
