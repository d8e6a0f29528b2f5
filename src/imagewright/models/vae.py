"""The autoencoder between pixels and latents: build, load, pack, normalise, encode and decode with `AutoencoderKLFlux2`.

Every latent outside this module is packed and normalised: [B, 4 * latent_channels, H / stride, W / stride].
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
from diffusers import AutoencoderKLFlux2
from torch import Tensor

from imagewright.config.vae import VaeConfig
from imagewright.errors import InputError, Problem

Autoencoder: TypeAlias = Any
"""An AutoencoderKLFlux2; diffusers' classes carry no types."""

# The diffusers pipelines divide by sqrt(var + 1e-5) whatever the config says (the released config says 1e-4); so do we.
BATCH_NORM_EPS = 1e-5
PATCH = 2
INITIAL_LOG_VARIANCE = -6.0
MIN_STATISTICS_IMAGES = 4096


class VaeError(InputError):
    """An autoencoder that does not fit the packed 2x2 latent space."""


def build_vae(config: VaeConfig) -> Autoencoder:
    """Returns an untrained autoencoder of the configured size."""
    levels = len(config.block_out_channels)
    vae = AutoencoderKLFlux2(  # type: ignore[no-untyped-call]
        block_out_channels=tuple(config.block_out_channels),
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=config.layers_per_block,
        latent_channels=config.latent_channels,
        norm_num_groups=config.norm_num_groups,
        mid_block_add_attention=config.mid_block_attention,
        sample_size=config.resolution_px,
        batch_norm_eps=BATCH_NORM_EPS,
        patch_size=(PATCH, PATCH),
    )
    start_near_identity(vae)
    return vae


@torch.no_grad()
def start_near_identity(vae: Autoencoder) -> None:
    """Starts as a short linear network that keeps the signal's size; measured to learn several times faster than the class's own start.

    The second convolution of every residual block is zero, the others have gain 1 (std 1 / sqrt(fan in)), and the posterior has a small
    fixed deviation (at the class's own start it is 1 and drowns what the encoder says).
    """
    for name, module in vae.named_modules():
        if isinstance(module, torch.nn.Conv2d) and name.endswith("conv2"):
            torch.nn.init.zeros_(module.weight)
            torch.nn.init.zeros_(cast(Tensor, module.bias))
        elif isinstance(module, torch.nn.Conv2d) and not name.endswith("conv1") and name != "quant_conv":
            torch.nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
    channels = vae.config["latent_channels"]
    vae.quant_conv.weight[channels:].zero_()
    vae.quant_conv.bias[channels:].fill_(INITIAL_LOG_VARIANCE)


def load_vae(source: str | Path, *, subfolder: str | None = None, dtype: torch.dtype = torch.float32) -> Autoencoder:
    """Returns a frozen autoencoder in eval mode from a folder (or hub id).

    Raises VaeError when it cannot be read or packs anything but 2x2.
    """
    try:
        options = {"use_safetensors": True, "torch_dtype": dtype}
        vae = cast(Any, AutoencoderKLFlux2).from_pretrained(str(source), subfolder=subfolder, **options)
    except (OSError, ValueError, TypeError, RuntimeError, KeyError) as error:
        raise VaeError(Problem("vae.source", f"cannot be loaded: {error}", str(source), "give a diffusers AutoencoderKLFlux2")) from error
    check_packing(vae)
    return freeze(vae)


def save_vae(vae: Autoencoder, folder: Path) -> None:
    """Writes config.json and safetensors as diffusers reads them."""
    vae.save_pretrained(str(folder), safe_serialization=True)


def freeze(vae: Autoencoder) -> Autoencoder:
    """Eval mode, no gradients. Returns the same object."""
    vae.requires_grad_(False)
    vae.eval()
    return vae


def check_packing(vae: Autoencoder, in_channels: int | None = None) -> None:
    """Raises VaeError unless the packing is 2x2 and, when given, a transformer's in_channels equals 4 x latent_channels."""
    problems = []
    patch = tuple(vae.config["patch_size"])
    if patch != (PATCH, PATCH):
        problems.append(
            Problem("vae.patch_size", "must be (2, 2): pipelines pack latents 2x2", patch, "use an autoencoder with patch_size [2, 2]")
        )
    if in_channels is not None and in_channels != packed_channels(vae):
        fix = f"set model.in_channels to {packed_channels(vae)}"
        problems.append(Problem("model.in_channels", "must be 4 x the autoencoder's latent_channels", in_channels, fix))
    if problems:
        raise VaeError(problems)


def packed_channels(vae: Autoencoder) -> int:
    """Channels of a packed latent: 4 x latent_channels."""
    return PATCH * PATCH * int(vae.config["latent_channels"])


def stride(vae: Autoencoder) -> int:
    """Pixels per packed latent cell: 2 ** number of levels (16 for the released VAE)."""
    return int(2 ** len(vae.config["block_out_channels"]))


def pack(latents: Tensor) -> Tensor:
    """[B, C, 2h, 2w] -> [B, 4C, h, w], channel order (c, row in patch, column in patch)."""
    batch, channels, height, width = latents.shape
    patches = latents.view(batch, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return patches.permute(0, 1, 3, 5, 2, 4).reshape(batch, channels * PATCH * PATCH, height // PATCH, width // PATCH)


def unpack(packed: Tensor) -> Tensor:
    """Inverse of `pack`: [B, 4C, h, w] -> [B, C, 2h, 2w]."""
    batch, channels, height, width = packed.shape
    patches = packed.view(batch, channels // (PATCH * PATCH), PATCH, PATCH, height, width)
    return patches.permute(0, 1, 4, 2, 5, 3).reshape(batch, channels // (PATCH * PATCH), height * PATCH, width * PATCH)


def normalise(vae: Autoencoder, packed: Tensor) -> Tensor:
    """(z - mean) / sqrt(var + eps) per packed channel, with the stored statistics."""
    mean, deviation = channel_statistics(vae, packed)
    return (packed - mean) / deviation


def denormalise(vae: Autoencoder, packed: Tensor) -> Tensor:
    """Inverse of `normalise`."""
    mean, deviation = channel_statistics(vae, packed)
    return packed * deviation + mean


def channel_statistics(vae: Autoencoder, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation [1, 4C, 1, 1] in the dtype and on the device of `like`."""
    mean, variance = cast(Tensor, vae.bn.running_mean), cast(Tensor, vae.bn.running_var)
    deviation = torch.sqrt(variance.double() + BATCH_NORM_EPS)
    return mean.view(1, -1, 1, 1).to(like), deviation.view(1, -1, 1, 1).to(like)


@torch.no_grad()
def encode_raw(vae: Autoencoder, images: Tensor) -> Tensor:
    """Images [B, 3, H, W] in -1..1 -> packed posterior mode, not normalised."""
    height, width = images.shape[-2:]
    step = stride(vae)
    if height % step or width % step:
        raise VaeError(Problem("image", f"sides must be multiples of the stride {step}", (width, height), "resize or pick another bucket"))
    return pack(vae.encode(images).latent_dist.mode())


@torch.no_grad()
def encode(vae: Autoencoder, images: Tensor) -> Tensor:
    """Images [B, 3, H, W] in -1..1 -> packed, normalised latents [B, 4C, H / stride, W / stride] (posterior mode)."""
    return normalise(vae, encode_raw(vae, images))


@torch.no_grad()
def decode(vae: Autoencoder, latents: Tensor) -> Tensor:
    """Packed, normalised latents -> images [B, 3, H, W], clamped to -1..1."""
    images = vae.decode(unpack(denormalise(vae, latents)), return_dict=False)[0]
    return cast(Tensor, images.clamp(-1, 1))


@torch.no_grad()
def set_statistics(vae: Autoencoder, batches: Iterable[Tensor]) -> int:
    """Sets the BatchNorm's per-channel mean and variance from encodings of image batches [B, 3, H, W]; returns how many images.

    The class never updates them itself. Sums run in fp64: small variances of large means would cancel in fp32.
    """
    total = torch.zeros(packed_channels(vae), dtype=torch.float64)
    squares = torch.zeros_like(total)
    images = values = 0
    for batch in batches:
        packed = encode_raw(vae, batch).double().cpu()
        total += packed.sum(dim=(0, 2, 3))
        squares += packed.square().sum(dim=(0, 2, 3))
        images += packed.shape[0]
        values += packed.shape[0] * packed.shape[2] * packed.shape[3]
    assert values > 1, "statistics need at least two latent cells"
    mean = total / values
    variance = (squares / values - mean.square()).clamp_min(0) * values / (values - 1)
    cast(Tensor, vae.bn.running_mean).copy_(mean)
    cast(Tensor, vae.bn.running_var).copy_(variance)
    return images


def digest(vae: Autoencoder) -> str:
    """SHA-256 over the architecture and every tensor: names latents made with this autoencoder."""
    architecture = {key: value for key, value in dict(vae.config).items() if not key.startswith("_")}
    hasher = hashlib.sha256(json.dumps(architecture, sort_keys=True, default=list).encode())
    for name, tensor in sorted(cast(dict[str, Any], vae.state_dict()).items()):
        contiguous = tensor.detach().cpu().contiguous()
        hasher.update(f"{name}{contiguous.dtype}{tuple(contiguous.shape)}".encode())
        hasher.update(contiguous.view(-1).view(torch.uint8).numpy().tobytes() if contiguous.ndim else contiguous.numpy().tobytes())
    return hasher.hexdigest()
