"""Settings of curation: what is measured, what is kept out and why, how duplicates, categories and the sampling mix are decided."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from imagewright.config.base import Section


class DecodeConfig(Section):
    """What a decoder may spend on one image."""

    max_bytes: int = Field(default=64 << 20, ge=1024)
    """Larger files are not read."""
    max_pixels: int = Field(default=64_000_000, ge=1)
    """Width x height as the header claims it; more is refused before a pixel is decoded."""
    max_side_px: int = Field(default=16_384, ge=1)
    """Longest side as the header claims it."""
    max_seconds: float = Field(default=10.0, gt=0)
    """Time for one decode."""


class FilterConfig(Section):
    """Thresholds. A sample is kept out by the first rule it breaks; a missing score breaks no rule."""

    min_side_px: int = Field(default=24, ge=1)
    """Shorter side below this: too_small."""
    max_aspect: float = Field(default=3.0, ge=1)
    """Longer / shorter side above this: aspect."""
    min_bytes_per_pixel: float = Field(default=0.005, ge=0)
    """File size over pixels below this: compression."""
    min_jpeg_quality: float = Field(default=20.0, ge=0, le=100)
    """Quality estimated from a JPEG's quantisation table below this: compression."""
    min_entropy: float = Field(default=0.05, ge=0, le=8)
    """Bits of the grey histogram below this: blank."""
    max_blur: float = Field(default=0.4, ge=0, le=1)
    """Share of the gradients that survive a second blur (Crete et al., 2007) above this: blur."""
    max_border: float = Field(default=0.95, ge=0, le=1)
    """Share of the picture outside its content box above this: border."""
    max_text_coverage: float = Field(default=1.0, ge=0, le=1)
    """Share of the picture under text-like strokes above this, when the source names no visible text: watermark. Off at 1: line art
    answers to the stroke detector as well (measured), so watermarks are found by OCR, as words that repeat."""
    max_nsfw: float = Field(default=0.8, ge=0, le=1)
    """Safety classifier above this: unsafe."""
    min_agreement: float = Field(default=0.0, ge=0, le=1)
    """Rank of the own caption among others below this: caption_mismatch; 0 switches the rule off."""
    licences: tuple[str, ...] = ("CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0", "Apache-2.0", "MIT", "OFL-1.1", "public-domain")
    """Licences that may be trained on; any other: licence."""


class DedupConfig(Section):
    """Three tiers of duplicates: same bytes, same look, same embedding."""

    max_hamming: int = Field(default=8, ge=0, le=16)
    """Perceptual hashes at most this many bits apart are compared by thumbnail."""
    max_thumbnail_difference: float = Field(default=3.2, ge=0, le=255)
    """Mean absolute difference of 12 x 12 RGB thumbnails after a gain fit, of 255: at most this is a duplicate."""
    max_cell_difference: float = Field(default=36.0, ge=0, le=255)
    """Largest difference of one thumbnail cell, of 255: at most this is a duplicate."""
    min_cosine: float = Field(default=1.0, ge=0, le=1)
    """Embeddings at least this similar are duplicates; 1 switches the tier off."""


class TaxonomyConfig(Section):
    """Two levels of visual categories found by k-means, and the head that assigns every image to one."""

    embedding: Literal["colour_gradient", "efficientnet_lite3"] = "colour_gradient"
    """Features: cheap statistics without a model, or ImageNet features (1280 numbers, 14 ms an image on one thread)."""
    num_categories: int = Field(default=24, ge=1, le=100_000)
    """Fine classes."""
    num_groups: int = Field(default=6, ge=1, le=10_000)
    """Coarse classes: k-means over the fine centroids."""
    max_fit_samples: int = Field(default=100_000, ge=10)
    """Samples the clusters are found on; all are assigned."""

    @model_validator(mode="after")
    def _groups_are_fewer(self) -> TaxonomyConfig:
        if self.num_groups > self.num_categories:
            raise ValueError("num_groups must not exceed num_categories: groups are made of categories")
        return self


class CaptionerConfig(Section):
    """Who writes captions."""

    kind: Literal["metadata", "transformers", "openai"] = "metadata"
    """From the source's own words, a local image-text-to-text model, or an OpenAI-compatible endpoint."""
    model: str = ""
    """Hub id or path (transformers), model name (openai)."""
    endpoint: str = ""
    """Base URL of an OpenAI-compatible server, for example http://vllm:8000/v1; its key is read from OPENAI_API_KEY."""
    languages: tuple[Literal["en", "zh"], ...] = ("en", "zh")
    """Languages of written captions."""
    max_chars: int = Field(default=2000, ge=16)
    """Longer captions are cut at a word."""

    @model_validator(mode="after")
    def _a_model_is_named(self) -> CaptionerConfig:
        if self.kind != "metadata" and not self.model:
            raise ValueError("captioner kinds transformers and openai need `model`")
        if self.kind == "openai" and not self.endpoint:
            raise ValueError("captioner kind openai needs `endpoint`")
        return self


class SamplingConfig(Section):
    """Hierarchical sampling: between categories, then inside each."""

    look: Literal["champion", "statistic"] = "champion"
    """What a sample's look is: the score of the registered aesthetic model, `aes@champion`, or a measured statistic. Without a champion it
    is the statistic; the dataset card says which."""
    temperature: float = Field(default=0.5, ge=0, le=1)
    """tau of w_c = n_c**tau * exp(gamma * z_c): 1 keeps the natural mix, 0 makes categories equal."""
    aesthetic_weight: float = Field(default=0.3, ge=0, le=5)
    """gamma: how strongly better-looking categories are favoured."""
    inner_weight: float = Field(default=0.3, ge=0, le=5)
    """kappa of p(i|c) = exp(kappa * z_i): how strongly better-looking samples are favoured inside a category."""
    category_floor: float = Field(default=0.2, ge=0, le=1)
    """Smallest share of a category, as a fraction of the uniform share."""
    sample_floor: float = Field(default=0.2, ge=0, le=1)
    """Smallest weight of a sample, as a fraction of its category's mean."""
    max_repeats: float = Field(default=8.0, ge=1)
    """Most draws of one sample in an epoch."""


class CurationConfig(Section):
    """Raw pool -> curated manifest."""

    decode: DecodeConfig = DecodeConfig()
    """Limits of one decode."""
    filters: FilterConfig = FilterConfig()
    """Thresholds of the one step that decides."""
    dedup: DedupConfig = DedupConfig()
    """Duplicates."""
    taxonomy: TaxonomyConfig = TaxonomyConfig()
    """Categories."""
    captioner: CaptionerConfig = CaptionerConfig()
    """Captions."""
    sampling: SamplingConfig = SamplingConfig()
    """The mix."""
    safety: bool = False
    """Run the safety classifier (20 ms an image)."""
    ocr: bool = False
    """Read visible text (0.25 s an image) where text-like strokes are seen."""
    trusted_sources: tuple[str, ...] = ("scenes", "posters")
    """Sources drawn by this program: the safety classifier passes over them."""
    num_workers: int = Field(default=1, ge=1, le=256)
    """Processes that walk partitions."""
    num_slices: int = Field(default=1, ge=1, le=64)
    """Work slices when scoring fans out; each walks every num_slices-th partition."""
    slice_index: int = Field(default=0, ge=0, lt=64)
    """The slice that one score-samples job walks."""

    @model_validator(mode="after")
    def _the_slice_exists(self) -> CurationConfig:
        if self.slice_index >= self.num_slices:
            raise ValueError("slice_index must be below num_slices")
        return self
