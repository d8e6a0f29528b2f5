"""Section `aes`: the aesthetic model, what it is trained on where nobody has voted, and what it is held against."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from imagewright.config.base import Section

DAMAGE_KINDS = (
    "blur",
    "noise",
    "jpeg",
    "colour_blotches",
    "washed_out",
    "broken_shapes",
    "grid_artefacts",
    "misplaced_patches",
    "ghosting",
    "pixelated",
)


class AesConfig(Section):
    """An image scorer over 101 score bins, trained on tournament tiers and the raw pairs behind them."""

    backbone: Literal["conv", "filters", "efficientnet_lite3", "vision_language"] = "conv"
    """`conv`: a small network of our own. `filters`: statistics of fixed filters and a head, the cheapest, for machines without a GPU.
    `efficientnet_lite3`: frozen ImageNet features and a head.
    `vision_language`: any image-text-to-text model of transformers with score tokens, as in the ERNIE-Image report."""
    pretrained: str = ""
    """Folder or hub id of the vision-language model; the other backbones have none."""
    side_px: int = Field(default=32, ge=8, le=1024)
    """Images are resized to this square before they are scored; 448 for the released vision-language scorer."""
    channels: tuple[int, ...] = Field(default=(24, 48, 96), min_length=1, max_length=8)
    """Width of each level of the conv backbone; every level halves the image."""
    members: int = Field(default=2, ge=1, le=16)
    """Networks in the ensemble of the small backbones; the score is their mean, the disagreement their standard deviation."""
    train_images: int = Field(default=2048, ge=32)
    """Simulated: pictures of the training split that are damaged and compared."""
    test_images: int = Field(default=512, ge=16)
    """Simulated: pictures of held-out concepts, once with seen and once with unseen kinds of damage."""
    clean_share: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Simulated: share of pictures left undamaged."""
    max_damages: int = Field(default=2, ge=1, le=4)
    """Simulated: most kinds of damage in one picture."""
    held_out_damages: tuple[str, ...] = ("misplaced_patches", "ghosting", "pixelated")
    """Kinds of damage never trained on; they measure what carries over."""
    tournament_images: int = Field(default=128, ge=2, le=1024)
    """Images in one tournament; one annotator judges a whole one."""
    annotator_flip: float = Field(default=0.1, ge=0.0, lt=0.5)
    """Simulated: share of choices that are reversed."""
    bin_width: float = Field(default=4.0, ge=0.0, le=25.0)
    """Standard deviation of the soft target around a score; a tier is 10 wide, so 4 covers one."""
    ranking_weight: float = Field(default=1.0, ge=0.0)
    """Weight of the Bradley-Terry loss on the raw pairs beside the cross-entropy."""
    ranking_scale: float = Field(default=10.0, gt=0.0)
    """Score difference that stands for odds of e : 1; 10 is one tier."""
    category_balance: float = Field(default=0.75, ge=0.0, le=1.0)
    """Categories are drawn with probability ~ n ** this: 1 as they come, 0 all alike, which overfits categories of a few images."""
    pairs_per_step: int = Field(default=32, ge=1)
    """Pairs in one step; both images of a pair also count in the cross-entropy."""
    steps: int = Field(default=600, ge=1)
    """Optimizer steps."""
    learning_rate: float = Field(default=2e-3, gt=0.0)
    """Peak of the cosine schedule."""
    warmup_steps: int = Field(default=30, ge=0)
    """Steps of linear warm-up."""
    validation_share: float = Field(default=0.1, gt=0.0, lt=0.5)
    """Share of the rated images kept out of training for calibration."""
    evidence_prompts: int = Field(default=64, ge=3)
    """Held-out scenes of which the generator's pictures are scored, once for each kind of picture."""
    evidence_low_steps: tuple[int, ...] = (2, 4)
    """Sampling steps too few for a good picture; the generator's own failures."""
    registered: str = Field(default="aes@challenger", pattern=r"^aes@[a-z0-9][a-z0-9_-]{0,62}$")
    """The registered model that scores a manifest when none is given as input: `aes@VERSION` or `aes@ALIAS`."""
    score_partition: int = Field(default=2048, ge=1)
    """Samples scored at a time; a killed run loses at most so many."""

    @property
    def seen_damages(self) -> tuple[str, ...]:
        """Kinds of damage trained on."""
        return tuple(kind for kind in DAMAGE_KINDS if kind not in self.held_out_damages)

    @model_validator(mode="after")
    def check_backbone(self) -> Self:
        """Refuses settings that contradict each other."""
        if (self.backbone == "vision_language") != bool(self.pretrained):
            raise ValueError("pretrained names the model of backbone: vision_language, and no other backbone has one")
        if unknown := sorted(set(self.held_out_damages) - set(DAMAGE_KINDS)):
            raise ValueError(f"held_out_damages must be among {', '.join(DAMAGE_KINDS)}, not {unknown}")
        if len(self.seen_damages) < self.max_damages:
            raise ValueError(f"{len(self.seen_damages)} damages are left to train on; max_damages={self.max_damages} needs as many")
        if self.backbone == "conv" and self.side_px < 2 ** len(self.channels):
            raise ValueError(f"side_px={self.side_px} is too small for {len(self.channels)} halvings")
        return self
