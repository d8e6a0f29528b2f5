"""Settings of ingest: which sources make the raw pool, and how large each is."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from imagewright.config.base import Section

Language = Literal["en", "zh"]
SceneTask = Literal["single", "two", "counting", "colors", "position", "color_attr"]


class ScenesConfig(Section):
    """Composed scenes with exact ground truth."""

    num_samples: int = Field(default=400, ge=0, le=100_000_000)
    """Scenes over all splits."""
    size_px: int = Field(default=32, ge=16, le=2048)
    """Side of the square picture."""
    tasks: tuple[SceneTask, ...] = Field(default=("single", "two", "counting", "colors", "position", "color_attr"), min_length=1)
    """Tasks drawn, in equal shares."""
    languages: tuple[Language, ...] = Field(default=("en", "zh"), min_length=1)
    """Languages of the captions."""
    layout_freedom: float = Field(default=1.0, ge=0, le=1)
    """How far sizes and places stray from the middle of the room they have: 1 anywhere in it, 0 always in its middle."""
    holdout_fraction: float = Field(default=0.05, ge=0, lt=1)
    """Share of scenes that show a held-out combination (split holdout_compositional)."""
    validation_fraction: float = Field(default=0.05, ge=0, lt=1)
    """Share of in-distribution scenes kept out of training (split validation)."""

    @model_validator(mode="after")
    def _fractions_leave_training(self) -> ScenesConfig:
        if self.holdout_fraction + self.validation_fraction >= 1:
            raise ValueError("holdout_fraction + validation_fraction must stay below 1, or nothing is left to train on")
        if self.holdout_fraction > 0 and set(self.tasks) <= {"single", "two"}:
            raise ValueError("tasks single and two name no held-out combination; add another task or set holdout_fraction to 0")
        return self


class EmojiConfig(Section):
    """The packaged emoji corpus."""

    num_concepts: int = Field(default=0, ge=-1)
    """Concepts (base codepoints) taken; -1 takes all, 0 none."""
    size_px: int = Field(default=64, ge=16, le=2048)
    """Side of the square picture; OpenMoji is drawn at this size, Noto is resized."""
    styles: tuple[Literal["openmoji", "noto"], ...] = Field(default=("openmoji", "noto"), min_length=1)
    """Picture styles."""
    skin_tones: bool = False
    """Include skin-tone variants: natural near-duplicates, and 59% of the corpus."""
    holdout_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Share of concepts held out in every style (split holdout_concept), chosen by a hash of the base codepoint."""


class PostersConfig(Section):
    """Typeset posters, signs and slides with exact text."""

    num_samples: int = Field(default=0, ge=0, le=100_000_000)
    """Pictures."""
    size_px: int = Field(default=128, ge=32, le=4096)
    """Longer side; below about 64 px the text cannot be read."""
    languages: tuple[Language, ...] = Field(default=("en", "zh"), min_length=1)
    """Languages of the visible text."""
    validation_fraction: float = Field(default=0.05, ge=0, lt=1)
    """Share kept out of training (split validation)."""


class ExternalSource(Section):
    """Images the user brings.

    Debian's Tux Paint stamps and Open Clip Art are folders too: unpack the package (`dpkg-deb -x`), give its folder and its licence
    (stamps: GPL-2.0, which `curation.filters.licences` must name; clip art: public-domain).
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]{0,30}$")
    """Name of the source in the manifest and in sample keys."""
    kind: Literal["folder", "webdataset", "parquet"]
    """A folder with captions beside the images, WebDataset tars, or a Parquet table."""
    path: str
    """Local path."""
    licence: str
    """Licence of every image; the filter refuses what its list does not name."""
    style: str = ""
    """Style recorded for every image."""
    image_column: str = "image"
    """Parquet: bytes of the image (or a struct with `bytes`)."""
    url_column: str = "url"
    """Parquet: where to download the image, when there are no bytes."""
    caption_column: str = "caption"
    """Parquet: caption."""
    max_bytes: int = Field(default=32 << 20, ge=1024)
    """Largest download."""
    max_seconds: float = Field(default=20.0, gt=0)
    """Longest download, redirects included."""


class CorruptConfig(Section):
    """Known faults mixed into the pool: the share of samples that get each. The side table faults.parquet says which."""

    exact_duplicate: float = Field(default=0.0, ge=0, le=1)
    """Same bytes again under another key."""
    near_duplicate: float = Field(default=0.0, ge=0, le=1)
    """Re-encoded, resized, slightly brighter or darker, under another key."""
    blur: float = Field(default=0.0, ge=0, le=1)
    """Gaussian blur of 3% to 6% of the longer side."""
    tiny: float = Field(default=0.0, ge=0, le=1)
    """Longer side under 15 px."""
    broken: float = Field(default=0.0, ge=0, le=1)
    """Zero bytes, cut, HTML, or noise after the header."""
    bomb: float = Field(default=0.0, ge=0, le=1)
    """A header that claims 30,000 x 30,000 pixels."""
    watermark: float = Field(default=0.0, ge=0, le=1)
    """Translucent words across the picture."""
    compressed: float = Field(default=0.0, ge=0, le=1)
    """JPEG quality 3."""
    wrong_caption: float = Field(default=0.0, ge=0, le=1)
    """The captions of another concept."""

    @model_validator(mode="after")
    def _shares_add_up(self) -> CorruptConfig:
        if sum(value for _, value in self) > 1:
            raise ValueError("the shares of all faults must add up to at most 1")
        return self


class DataConfig(Section):
    """The raw pool: sources, faults and shards."""

    scenes: ScenesConfig = ScenesConfig()
    """Procedurally composed scenes."""
    emoji: EmojiConfig = EmojiConfig()
    """OpenMoji and Noto pictures."""
    posters: PostersConfig = PostersConfig()
    """Typeset pictures."""
    external: tuple[ExternalSource, ...] = ()
    """Folders, tars and tables the user brings."""
    corrupt: CorruptConfig = CorruptConfig()
    """Faults mixed in."""
    samples_per_shard: int = Field(default=1024, ge=1, le=1_000_000)
    """Samples in one tar."""
