"""The aesthetic model: images in, a distribution over 101 score bins out; loaded by curation, preference ranking and evaluation.

One interface, two families of backbones: small image encoders with a head (here; models/filter_statistics.py) and vision-language models
(models/aesthetic_vlm.py).
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from imagewright.config.aes import AesConfig
from imagewright.errors import InputError, Problem
from imagewright.losses.score_distribution import MAX_SCORE, NUM_BINS, expected_score

AES_FOLDER = "aes"
WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"
MAX_CONFIG_BYTES = 1_000_000
FEATURE_CACHE_IMAGES = 20_000
FILTER_DROPOUT = 0.2


class ConvScorer(nn.Module):
    """A small residual conv net with mean and spread pooling, for 32 to 128 px images."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        levels: list[nn.Module] = []
        before = 3
        for width in channels:
            levels.append(ConvLevel(before, width))
            before = width
        self.levels = nn.Sequential(*levels)
        self.head = score_head(nn.BatchNorm1d(2 * sum(channels)), 2 * sum(channels))

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [B, 3, H, W] -> logits [B, 101]. Every level is pooled: damage is local at all scales."""
        x = images.float().div(127.5).sub(1)
        pooled = []
        for level in self.levels:
            x = level(x)
            pooled += [x.mean(dim=(2, 3)), (x.var(dim=(2, 3), unbiased=False) + 1e-4).sqrt()]
        return self.head(torch.cat(pooled, dim=1))  # type: ignore[no-any-return]


class ConvLevel(nn.Module):
    """A strided 3x3 convolution, then a residual one; halving first costs a quarter of halving last."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.widen = nn.Conv2d(before, width, 3, stride=2, padding=1)
        # Batch statistics: a norm over one image would erase the contrast and noise levels that tell damage.
        self.norm = nn.BatchNorm2d(width)
        self.deepen = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, width, H/2, W/2]."""
        x = F.silu(self.norm(self.widen(x)))
        return x + F.silu(self.deepen(x))


class FeatureScorer(nn.Module):
    """A head on features that are not trained; features of images already seen are kept.

    extract: RGB uint8 [n, H, W, 3] -> float32 [n, D].
    """

    def __init__(self, extract: Callable[[NDArray[np.uint8]], NDArray[np.float32]], head: nn.Module) -> None:
        super().__init__()
        self.extract, self.head = extract, head
        self.features: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [B, 3, H, W] -> logits [B, 101]."""
        pixels = np.ascontiguousarray(images.permute(0, 2, 3, 1).cpu().numpy())
        keys = [hashlib.sha256(image.tobytes()).digest() for image in pixels]
        known = {key: self.features[key] for key in keys if key in self.features}
        missing = {key: place for place, key in enumerate(keys) if key not in known}
        if missing:
            made = self.extract(pixels[list(missing.values())])
            known |= zip(missing, made, strict=True)
            self.features |= zip(missing, made, strict=True)
            while len(self.features) > FEATURE_CACHE_IMAGES:
                self.features.popitem(last=False)
        features = torch.from_numpy(np.stack([known[key] for key in keys]))
        return self.head(features.to(images.device))  # type: ignore[no-any-return]


def filter_scorer() -> FeatureScorer:
    """A head on statistics of fixed filters."""
    from imagewright.models.filter_statistics import NUM_FEATURES, filter_statistics

    return FeatureScorer(filter_statistics, score_head(nn.BatchNorm1d(NUM_FEATURES), NUM_FEATURES, dropout=FILTER_DROPOUT))


def efficientnet_scorer() -> FeatureScorer:
    """A head on frozen EfficientNet-Lite3 features (1280)."""
    from imagewright.curation.embedding import efficientnet_embedding

    def extract(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        # Unit-length features of 1280 values are small numbers; this brings them to about 1.
        return np.stack([efficientnet_embedding(np.ascontiguousarray(image)) for image in images]) * np.float32(1280**0.5)

    return FeatureScorer(extract, score_head(nn.LayerNorm(1280), 1280))


class Ensemble(nn.Module):
    """Several scorers side by side; their logits are stacked."""

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [B, 3, H, W] -> logits [members, B, 101]."""
        return torch.stack([member(images) for member in self.members])


def score_head(norm: nn.Module, features: int, dropout: float = 0.0) -> nn.Sequential:
    """Normalised features -> 101 logits."""
    hidden = [norm, nn.Linear(features, 128), nn.SiLU(), *([nn.Dropout(dropout)] if dropout else [])]
    return nn.Sequential(*hidden, nn.Linear(128, NUM_BINS))


def build_network(config: AesConfig) -> Ensemble:
    """Fresh networks of the configured backbone. Raises InputError when a vision-language model cannot be loaded."""
    if config.backbone == "vision_language":
        from imagewright.models.aesthetic_vlm import load_vision_language_scorer

        return Ensemble([load_vision_language_scorer(config.pretrained)])
    made: dict[str, Callable[[], nn.Module]] = {
        "conv": lambda: ConvScorer(config.channels),
        "filters": filter_scorer,
        "efficientnet_lite3": efficientnet_scorer,
    }
    return Ensemble([made[config.backbone]() for _ in range(config.members)])


@dataclass(frozen=True)
class Calibration:
    """score = slope * raw + intercept, clipped to 0..100: brings raw expectations onto the scale of the ratings."""

    slope: float = 1.0
    intercept: float = 0.0

    def __call__(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        """Calibrated scores [n]."""
        return np.clip(self.slope * raw + self.intercept, 0.0, MAX_SCORE)


def fit_calibration(raw: NDArray[np.float64], ratings: NDArray[np.float64]) -> Calibration:
    """Least squares of ratings on raw scores; a slope that is not positive would turn the order round, so nothing is changed then."""
    spread = float(np.var(raw))
    if len(raw) < 2 or spread < 1e-9:
        return Calibration()
    slope = float(np.mean((raw - raw.mean()) * (ratings - ratings.mean()))) / spread
    return Calibration(slope, float(ratings.mean() - slope * raw.mean())) if slope > 0 else Calibration()


class AestheticScorer:
    """A trained model ready to score. origin: `simulated` or `human`, what its training ratings were."""

    def __init__(self, network: Ensemble, config: AesConfig, calibration: Calibration, origin: Literal["simulated", "human"]) -> None:
        self.network, self.config, self.calibration, self.origin = network.eval(), config, calibration, origin

    def score(self, images: NDArray[np.uint8], batch_size: int = 64) -> NDArray[np.float64]:
        """RGB uint8 [n, H, W, 3] -> scores [n] in 0..100. Raises InputError for other arrays."""
        return self.score_with_disagreement(images, batch_size)[0]

    def score_with_disagreement(self, images: NDArray[np.uint8], batch_size: int = 64) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scores [n] and the standard deviation [n] over the ensemble, both on the calibrated scale."""
        check_images(images)
        found = [self.member_scores(images[start : start + batch_size]) for start in range(0, len(images), batch_size)]
        members = self.calibration(np.concatenate(found, axis=1)) if found else np.zeros((1, 0))
        scores = np.asarray(members.mean(axis=0), dtype=np.float64)
        if not np.isfinite(scores).all():
            bad = int((~np.isfinite(scores)).sum())
            raise InputError(Problem("aes", "must give finite scores", f"{bad} of {len(scores)} are not", "train the model again"))
        return scores, np.asarray(members.std(axis=0), dtype=np.float64)

    @torch.no_grad()
    def member_scores(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Raw expectations [members, n] of one batch."""
        device = next(self.network.parameters()).device
        logits = self.network(to_network_input(images, self.config.side_px).to(device))
        return np.asarray(torch.stack([expected_score(member) for member in logits]).cpu().numpy(), dtype=np.float64)


def check_images(images: NDArray[np.uint8]) -> None:
    """Raises InputError unless images are RGB uint8 [n, H, W, 3]."""
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        received = f"{getattr(images, 'dtype', type(images).__name__)} {getattr(images, 'shape', '')}"
        raise InputError(Problem("images", "must be an array of RGB uint8 [n, height, width, 3]", received, "decode with decode_rgb"))


def to_network_input(images: NDArray[np.uint8], side_px: int) -> Tensor:
    """Resizes RGB uint8 [n, H, W, 3] to squares (stretched, as the report's scorer does) -> uint8 [n, 3, side, side]."""
    if images.shape[1:3] != (side_px, side_px):
        shrinks = max(images.shape[1:3]) > side_px
        how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        images = np.stack([cv2.resize(image, (side_px, side_px), interpolation=how) for image in images]).astype(np.uint8)
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def save_scorer(scorer: AestheticScorer, folder: Path) -> None:
    """Writes `model.safetensors` and `config.json`; a vision-language backbone writes its own folder besides."""
    folder.mkdir(parents=True, exist_ok=True)
    if scorer.config.backbone == "vision_language":
        from imagewright.models.aesthetic_vlm import VisionLanguageScorer

        member = scorer.network.members[0]
        assert isinstance(member, VisionLanguageScorer)
        member.save(folder / "backbone")
    else:
        weights = {name: tensor.contiguous() for name, tensor in scorer.network.state_dict().items()}
        save_file(weights, str(folder / WEIGHTS_NAME))
    tree = {
        "format": "imagewright-aes-1",
        "origin": scorer.origin,
        "aes": scorer.config.model_dump(mode="json"),
        "calibration": {"slope": scorer.calibration.slope, "intercept": scorer.calibration.intercept},
    }
    (folder / CONFIG_NAME).write_text(json.dumps(tree, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load_scorer(folder: Path) -> AestheticScorer:
    """Loads a model payload (or its `aes/` folder). Raises InputError when it is none."""
    folder = folder / AES_FOLDER if (folder / AES_FOLDER).is_dir() else folder
    try:
        path = folder / CONFIG_NAME
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ValueError(f"{path.name} is larger than {MAX_CONFIG_BYTES} bytes")
        tree: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        config = AesConfig.model_validate(tree["aes"])
        if config.backbone == "vision_language":
            config = config.model_copy(update={"pretrained": str(folder / "backbone")})
        network = build_network(config)
        if config.backbone != "vision_language":
            network.load_state_dict(load_file(str(folder / WEIGHTS_NAME)))
        calibration = Calibration(float(tree["calibration"]["slope"]), float(tree["calibration"]["intercept"]))
        return AestheticScorer(network, config, calibration, tree["origin"])
    except InputError:
        raise
    except Exception as error:
        fix = "train one with `imagewright job train-aesthetic`"
        raise InputError(Problem("aes", f"is no aesthetic model: {error}", str(folder), fix)) from error
