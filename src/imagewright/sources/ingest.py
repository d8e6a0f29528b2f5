"""Ingest: every enabled source -> shards and the raw manifest, one row per sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from imagewright.config.data import DataConfig
from imagewright.data.manifest import MANIFEST_NAME, ManifestRow, ManifestWriter
from imagewright.data.shards import SHARDS_FOLDER, SampleLocation, ShardWriter
from imagewright.sources.emoji import emoji_samples
from imagewright.sources.external import external_samples
from imagewright.sources.faults import FAULTS_NAME, Fault, corrupt, write_faults
from imagewright.sources.posters import poster_samples
from imagewright.sources.samples import RawSample
from imagewright.sources.scenes import scene_samples


def ingest(section: DataConfig, output: Path, seed: int) -> dict[str, int]:
    """Writes `output/shards/*.tar` and `output/manifest.parquet` from every source of `section`.

    With faults mixed in, `output/faults.parquet` lists them. Returns counts: num_samples, num_<split>, num_source_<name>,
    num_skipped_<reason> and num_fault_<name>. The same (section, seed) gives the same bytes.
    """
    faults: list[Fault] = []
    skipped: Counter[str] = Counter()
    counts = write_pool(corrupt(all_samples(section, seed, skipped), section.corrupt, seed, faults), output, section.samples_per_shard)
    if any(share for _, share in section.corrupt):
        write_faults(output / FAULTS_NAME, faults)
    counts |= {f"num_skipped_{reason}": count for reason, count in sorted(skipped.items())}
    return counts | {f"num_fault_{name}": count for name, count in sorted(Counter(fault.fault for fault in faults).items())}


def all_samples(section: DataConfig, seed: int, skipped: Counter[str]) -> Iterator[RawSample]:
    """Samples of every enabled source, in a fixed order; `skipped` counts external entries that were passed over, by reason."""
    yield from scene_samples(section.scenes, seed)
    yield from emoji_samples(section.emoji)
    yield from poster_samples(section.posters, seed)
    for external in section.external:
        yield from external_samples(external, skipped)


def write_pool(samples: Iterable[RawSample], output: Path, samples_per_shard: int) -> dict[str, int]:
    """Streams samples into shards and the raw manifest; returns counts."""
    counts: Counter[str] = Counter()
    with ShardWriter(output / SHARDS_FOLDER, samples_per_shard) as shards, ManifestWriter(output / MANIFEST_NAME) as manifest:
        for sample in samples:
            metadata = {"captions": {f"{c.form}.{c.language}": c.text for c in sample.captions}, "licence": sample.licence}
            location = shards.add(sample.sample_key, sample.extension, sample.image, metadata)
            manifest.add(manifest_row(sample, location))
            counts.update(["num_samples", f"num_{sample.split}", f"num_source_{sample.source}"])
    return dict(sorted(counts.items()))


def manifest_row(sample: RawSample, location: SampleLocation) -> ManifestRow:
    """The raw manifest's row of a sample stored at `location`."""
    return ManifestRow(
        sample_key=sample.sample_key,
        shard=location.shard,
        offset=location.offset,
        length=location.length,
        sha256=location.sha256,
        width=sample.width,
        height=sample.height,
        source=sample.source,
        licence=sample.licence,
        style=sample.style,
        concept=sample.concept,
        category=sample.category,
        split=sample.split,
        captions=sample.captions,
        visible_text=sample.visible_text,
        scene=sample.scene,
    )
