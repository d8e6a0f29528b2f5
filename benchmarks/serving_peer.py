"""The peer of the serving benchmarks: diffusers' own `ErnieImagePipeline` behind FastAPI, one request after the other.

Run by `serving_throughput.py` on the bundle that our server serves: python benchmarks/serving_peer.py BUNDLE PORT
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
from pathlib import Path
from threading import Lock
from typing import Any

import torch
import uvicorn
from diffusers import ErnieImagePipeline
from fastapi import FastAPI, Request, Response

from imagewright.config.model import ModelConfig
from imagewright.config.serving import ServingConfig
from imagewright.config.text_encoder import TextEncoderConfig
from imagewright.config.vae import VaeConfig
from imagewright.models.diffusers_adapter import save_transformer
from imagewright.models.dit import ErnieImageDiT
from imagewright.models.vae import build_vae, save_vae, set_statistics
from imagewright.serving.bundle import export_bundle

DEMO = ModelConfig(in_channels=64, out_channels=64, text_in_dim=384)
"""The demo's shape: 6 million parameters."""
SMALL = DEMO.model_copy(
    update={"hidden_size": 64, "num_layers": 2, "num_attention_heads": 2, "ffn_hidden_size": 128, "rope_axes_dim": (8, 12, 12)}
)


def write_bundle(folder: Path, seed: int = 0, shape: ModelConfig = DEMO) -> Path:
    """A bundle with stride 8 and random weights; no parameter is left zero."""
    torch.manual_seed(seed)
    vae = build_vae(VaeConfig(block_out_channels=(16, 32, 48), latent_channels=16, norm_num_groups=8))
    set_statistics(vae, [torch.rand(16, 3, 32, 32) * 2 - 1 for _ in range(4)])
    save_vae(vae, folder / "parts" / "vae")
    model = ErnieImageDiT(shape)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(("adaLN_modulation", "final_linear")):
                parameter.normal_(0, 0.05)
    save_transformer(model, folder / "parts" / "transformer")
    serving = ServingConfig(num_steps=8, default_size_px=32)
    export_bundle(folder / "parts" / "transformer", folder / "parts" / "vae", TextEncoderConfig(), serving, folder / "bundle")
    return folder / "bundle"


def draw(pipeline: Any, lock: Lock, fields: dict[str, Any]) -> bytes:
    """One image as the body of an answer."""
    width, height = map(int, fields["size"].split("x"))
    with lock:
        image = pipeline(
            fields["prompt"],
            width=width,
            height=height,
            num_inference_steps=fields["steps"],
            guidance_scale=fields["guidance_scale"],
            generator=torch.Generator().manual_seed(fields["seed"]),
            use_pe=False,
        ).images[0]
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return json.dumps({"data": [{"b64_json": base64.b64encode(buffer.getvalue()).decode()}]}).encode()


def main() -> None:
    """Serves until terminated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("port", type=int)
    options = parser.parse_args()
    pipeline = ErnieImagePipeline.from_pretrained(str(options.bundle))
    pipeline.set_progress_bar_config(disable=True)
    app, lock = FastAPI(), Lock()

    @app.post("/v1/images/generations")
    async def generations(request: Request) -> Response:
        content = await asyncio.to_thread(draw, pipeline, lock, json.loads(await request.body()))
        return Response(content, media_type="application/json")

    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
