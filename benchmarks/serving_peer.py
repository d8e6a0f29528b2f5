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
from transformers import AutoTokenizer, BertConfig, BertModel

from imagewright.config.model import ModelConfig
from imagewright.config.serving import ServingConfig
from imagewright.config.text_encoder import TextEncoderConfig
from imagewright.config.vae import VaeConfig
from imagewright.models.diffusers_adapter import save_transformer
from imagewright.models.dit import ErnieImageDiT
from imagewright.models.text_encoder import packaged_minilm
from imagewright.models.vae import build_vae, save_vae, set_statistics
from imagewright.serving.bundle import export_bundle

DEMO = ModelConfig(in_channels=64, out_channels=64, text_in_dim=384)
"""The demo's shape: 6 million parameters."""
SMALL = ModelConfig(
    in_channels=16,
    out_channels=16,
    text_in_dim=48,
    hidden_size=48,
    num_layers=2,
    num_attention_heads=2,
    ffn_hidden_size=96,
    rope_axes_dim=(8, 8, 8),
)
"""For questions that are not about speed."""


def write_bundle(folder: Path, seed: int = 0, small: bool = False) -> Path:
    """A bundle with stride 8 and random weights; no parameter is left zero."""
    torch.manual_seed(seed)
    shape = VaeConfig(block_out_channels=(8, 8, 16) if small else (16, 32, 48), latent_channels=4 if small else 16, norm_num_groups=8)
    vae = build_vae(shape)
    set_statistics(vae, [torch.rand(16, 3, 32, 32) * 2 - 1 for _ in range(4)])
    save_vae(vae, folder / "parts" / "vae")
    model = ErnieImageDiT(SMALL if small else DEMO)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(("adaLN_modulation", "final_linear")):
                parameter.normal_(0, 0.05)
    save_transformer(model, folder / "parts" / "transformer")
    encoder = write_small_encoder(folder / "parts" / "text") if small else TextEncoderConfig()
    serving = ServingConfig(num_steps=8, default_size_px=32)
    export_bundle(folder / "parts" / "transformer", folder / "parts" / "vae", encoder, serving, folder / "bundle")
    return folder / "bundle"


def write_small_encoder(folder: Path) -> TextEncoderConfig:
    """A text encoder of two random layers with the packaged tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(packaged_minilm())
    tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)
    return TextEncoderConfig(kind="transformers", source=str(folder))


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
