"""Statistics of an image's responses to fixed filters: an encoder without weights for the aesthetic model of small machines.

What damages a picture shows in how strongly, how often and how evenly small frequency filters answer (natural scene statistics; Ruderman,
"The statistics of natural images", 1994). Bases of the discrete cosine transform on 4 x 4 pixels at full and half size, on luminance and
two opponent colours.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

FILTER_PX = 4
NUM_SCALES = 2
CALM_LEVELS = 3.0
"""Responses below about so many levels are what the eye takes for an even area."""
OPPONENT = ((0.299, 0.587, 0.114), (0.5, -0.5, 0.0), (0.25, 0.25, -0.5))
NUM_FEATURES = 3 * 4 + NUM_SCALES * 3 * (FILTER_PX**2 - 1) * 4
BATCH_IMAGES = 256


def cosine_filters() -> Tensor:
    """The orthonormal bases of the cosine transform on 4 x 4 pixels without the constant one: [15, 1, 4, 4]."""
    place = torch.arange(FILTER_PX, dtype=torch.float32)
    rows = torch.cos(torch.pi * place[:, None] * (2 * place[None, :] + 1) / (2 * FILTER_PX)) * (2 / FILTER_PX) ** 0.5
    rows[0] /= 2**0.5
    return torch.einsum("ab,cd->acbd", rows, rows).reshape(-1, 1, FILTER_PX, FILTER_PX)[1:]


def response_statistics(responses: Tensor) -> Tensor:
    """Mean, root mean square, largest and share of calm places of |responses| [N, C, H, W] -> [N, 4 C]."""
    size = responses.abs()
    calm = torch.exp(-size / CALM_LEVELS).mean(dim=(2, 3))
    return torch.cat([size.mean(dim=(2, 3)), size.square().mean(dim=(2, 3)).sqrt(), size.amax(dim=(2, 3)), calm], dim=1)


@torch.no_grad()
def filter_statistics(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """RGB uint8 [n, H, W, 3], sides of at least 8 -> features [n, 372], on a logarithmic scale. A mirrored image has the same features."""
    found = [batch_statistics(images[start : start + BATCH_IMAGES]) for start in range(0, len(images), BATCH_IMAGES)]
    return np.concatenate(found) if found else np.zeros((0, NUM_FEATURES), dtype=np.float32)


def batch_statistics(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Features of one batch."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).float()
    colours = torch.einsum("ij,nhwj->nihw", torch.tensor(OPPONENT), pixels).contiguous()
    parts = [colours.mean(dim=(2, 3)), colours.std(dim=(2, 3), correction=0), colours.amax(dim=(2, 3)), colours.amin(dim=(2, 3))]
    filters = cosine_filters()
    for scale in range(NUM_SCALES):
        planes = colours if scale == 0 else F.avg_pool2d(colours, 2**scale)
        # One plane is one picture to the convolution: a grouped one takes several times as long on a CPU.
        responses = F.conv2d(planes.flatten(0, 1)[:, None], filters)
        parts.append(response_statistics(responses.reshape(len(images), -1, *responses.shape[2:])))
    features = torch.cat(parts, dim=1)
    return np.asarray((features.sign() * features.abs().log1p()).numpy(), dtype=np.float32)
