"""Curation from end to end: scores per partition, then one decision, duplicates, categories, sampling, funnel and card."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from imagewright.config.curation import CurationConfig
from imagewright.curation.agreement import agreement_ranks
from imagewright.curation.captioning import write_captions
from imagewright.curation.card import write_card
from imagewright.curation.dedup import Fingerprints, find_duplicates, rank_copies
from imagewright.curation.filters import decide, rules
from imagewright.curation.funnel import Funnel, build_funnel, write_funnel
from imagewright.curation.look import AestheticPayload
from imagewright.curation.partitions import ResultStore, gather, list_partitions, walk
from imagewright.curation.perceptual_hash import THUMBNAIL_BYTES
from imagewright.curation.sampling import CategoryShare, weigh
from imagewright.curation.stage import Partition, Stage
from imagewright.curation.stages import stages_of
from imagewright.curation.taxonomy import Taxonomy, fit_taxonomy
from imagewright.data.manifest import COLUMNS, MANIFEST_NAME, SCORE_PREFIX, conform, write_manifest
from imagewright.data.shards import SHARDS_FOLDER

FINGERPRINTS_NAME = "fingerprints.parquet"


@dataclass(frozen=True)
class Curated:
    """What curation made."""

    funnel: Funnel
    shares: list[CategoryShare]
    counts: Mapping[str, int]
    report: Path


def score(
    pool: Path,
    section: CurationConfig,
    work: Path,
    shared: ResultStore | None = None,
    slice_index: int | None = None,
    scorer: AestheticPayload | None = None,
) -> dict[str, int]:
    """Walks the partitions (of one slice) through every stage; returns how many results were computed and reused."""
    partitions = list_partitions(pool)
    take = slice(None) if slice_index is None else slice(slice_index, None, section.num_slices)
    walks = [walk(stage, partitions, work, shared, section.num_workers, take) for stage in stages_of(section, scorer)]
    return {"num_computed": sum(w.num_computed for w in walks), "num_reused": sum(w.num_reused for w in walks)}


def curate(
    pool: Path,
    output: Path,
    section: CurationConfig,
    work: Path,
    seed: int,
    shared: ResultStore | None = None,
    earlier: Path | None = None,
    scorer: AestheticPayload | None = None,
) -> Curated:
    """Raw pool -> curated folder: manifest, shards, taxonomy, fingerprints, funnel (JSON and HTML), card.

    earlier: folder of a former curated revision; what it kept is never kept again. scorer: the aesthetic model the mix is weighed by; None
    weighs it by the measured statistic. kept + dropped = in is asserted.
    """
    partitions = list_partitions(pool)
    table = scored_table(partitions, stages_of(section, scorer), section, work, shared)
    num_in = table.num_rows
    table = write_captions(table, section, pool)
    table = decide(table, rules(section.filters))
    table = mark_duplicates(table, section, earlier)
    table = judge_agreement(table, section, seed)
    table, taxonomy = categorise(table, section, seed)
    assert table.num_rows == num_in, "curation never loses a row"
    pq.write_table(fingerprints_of(table), output / FINGERPRINTS_NAME, compression="zstd")
    unweighed = work / "unweighed.parquet"
    write_manifest(unweighed, manifest_of(table))
    shares = weigh(unweighed, output / MANIFEST_NAME, section.sampling, seed)
    link_shards(pool / SHARDS_FOLDER, output / SHARDS_FOLDER)
    taxonomy.save(output)
    funnel = build_funnel(table, partitions)
    report = write_funnel(funnel, shares, output)
    write_card(output, table, funnel, section, scorer)
    counts = {"num_in": num_in, "num_kept": funnel.num_kept, "num_dropped": num_in - funnel.num_kept}
    counts |= {f"num_dropped_{reason}": count for reason, count in sorted(funnel.reasons.items())}
    return Curated(funnel, shares, counts, report)


def scored_table(
    partitions: list[Partition], stages: list[Stage], section: CurationConfig, work: Path, shared: ResultStore | None
) -> pa.Table:
    """The manifest's rows in partition order, joined with every stage's columns; bad images have their reason already."""
    table = pa.concat_tables([partition.rows for partition in partitions])
    for stage in stages:
        results = gather(walk(stage, partitions, work, shared, section.num_workers).results, list(stage.outputs))
        assert results["sample_key"].equals(table["sample_key"]), f"{stage.name} has one result per sample, in order"
        for name in stage.outputs:
            table = table.drop_columns([name]) if name in table.column_names else table
            table = table.append_column(name, results[name])
    for name in ("width", "height"):
        measured = pc.coalesce(table[f"measured_{name}"], table[name])
        table = table.set_column(table.column_names.index(name), table.schema.field(name), measured.cast(pa.int32()))
    reason = pc.if_else(pc.equal(table["drop_reason"], ""), table["bad_image"], table["drop_reason"])
    return table.set_column(table.column_names.index("drop_reason"), table.schema.field("drop_reason"), reason)


def mark_duplicates(table: pa.Table, section: CurationConfig, earlier: Path | None) -> pa.Table:
    """Duplicates among what is still kept; a duplicate of an earlier revision's sample under another key is dropped too."""
    kept = np.flatnonzero(pc.equal(table["drop_reason"], "").to_numpy(zero_copy_only=False))
    pool = table.take(pa.array(kept)).select(
        ["sample_key", "sha256", "phash", "thumbnail", "split", "width", "height", "score_bytes_per_pixel"]
    )
    before = earlier_fingerprints(earlier, set(pool["sample_key"].to_pylist()), pool.schema)
    both = pa.concat_tables([pool, before], promote_options="permissive") if before is not None else pool
    keys = both["sample_key"].to_pylist()
    is_earlier = np.arange(len(keys)) >= len(kept)
    blank = bytes(THUMBNAIL_BYTES)
    thumbnails = np.frombuffer(b"".join(cell or blank for cell in both["thumbnail"].to_pylist()), np.uint8).reshape(-1, THUMBNAIL_BYTES)
    pixels = both["width"].to_numpy().astype(np.int64) * both["height"].to_numpy()
    prints = Fingerprints(
        keys=keys,
        digests=both["sha256"].to_pylist(),
        hashes=both["phash"].fill_null(0).to_numpy(),
        has_hash=both["phash"].is_valid().to_numpy(zero_copy_only=False),
        thumbnails=thumbnails,
        rank=rank_copies(both["split"].to_pylist(), pixels, both["score_bytes_per_pixel"].fill_null(0).to_numpy(), keys, is_earlier),
        sides_px=np.minimum(both["width"].to_numpy(), both["height"].to_numpy()),
        embeddings=None if before is not None or section.dedup.min_cosine >= 1 else embeddings_of(table.take(pa.array(kept)), section)[0],
    )
    reasons = table["drop_reason"].to_pylist()
    copies: list[str] = [""] * len(reasons)
    for index, (tier, better) in find_duplicates(prints, section.dedup).items():
        if not is_earlier[index]:
            reasons[kept[index]], copies[kept[index]] = tier, keys[better]
    table = table.set_column(table.column_names.index("drop_reason"), table.schema.field("drop_reason"), pa.array(reasons, pa.string()))
    return table.append_column("copy_of", pa.array(copies, pa.string()))


def earlier_fingerprints(earlier: Path | None, keys: set[str], schema: pa.Schema) -> pa.Table | None:
    """Fingerprints of an earlier curated revision's kept samples, without those that are in this pool again."""
    if earlier is None:
        return None
    table = pq.read_table(earlier / FINGERPRINTS_NAME, columns=schema.names)
    fresh = [key not in keys for key in table["sample_key"].to_pylist()]
    return table.filter(pa.array(fresh)).cast(schema)


def fingerprints_of(table: pa.Table) -> pa.Table:
    """What a later revision needs to find duplicates of what this one kept."""
    names = ["sample_key", "sha256", "phash", "thumbnail", "split", "width", "height", "score_bytes_per_pixel"]
    return table.filter(pc.equal(table["drop_reason"], pa.scalar(""))).select(names)


def embeddings_of(table: pa.Table, section: CurationConfig) -> tuple[np.ndarray, np.ndarray]:
    """(embeddings [M, D] float32, positions [M]) of the rows that have one."""
    name = "features" if section.taxonomy.embedding == "efficientnet_lite3" else "embedding"
    column = table[name].combine_chunks()
    positions = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    values = column.drop_null().flatten().to_numpy().astype(np.float32)
    return values.reshape(len(positions), -1) if len(positions) else np.empty((0, 1), np.float32), positions


def judge_agreement(table: pa.Table, section: CurationConfig, seed: int) -> pa.Table:
    """Scores how well each caption fits its image (among kept samples) and applies the rule."""
    vectors, positions = embeddings_of(table, section)
    kept = pc.equal(table["drop_reason"], "").to_numpy(zero_copy_only=False)[positions]
    texts = short_texts(table)
    scores = np.full(table.num_rows, np.nan, np.float32)
    chosen = positions[kept]
    scores[chosen] = agreement_ranks(vectors[kept], [texts[i] for i in chosen], seed)
    table = table.append_column("score_agreement", pa.array(scores, mask=np.isnan(scores)))
    return decide(table, [rule for rule in rules(section.filters) if rule.reason == "caption_mismatch"])


def short_texts(table: pa.Table) -> list[str]:
    """One English text per row for naming and agreement: the long caption, else whatever there is."""
    texts = []
    for captions in table["captions"].to_pylist():
        english = [caption["text"] for caption in captions if caption["language"] == "en"] or [caption["text"] for caption in captions]
        texts.append(max(english, key=len, default=""))
    return texts


def categorise(table: pa.Table, section: CurationConfig, seed: int) -> tuple[pa.Table, Taxonomy]:
    """Finds the taxonomy on kept training samples and assigns every readable image; `source_category` keeps the source's own."""
    vectors, positions = embeddings_of(table, section)
    keep = pc.and_(pc.equal(table["drop_reason"], ""), pc.equal(table["split"], "train")).to_numpy(zero_copy_only=False)[positions]
    texts = short_texts(table)
    fit_on = keep if keep.any() else np.ones(len(positions), bool)
    taxonomy = fit_taxonomy(vectors[fit_on], [texts[i] for i in positions[fit_on]], section.taxonomy, seed)
    labels, confidence = taxonomy.classify(vectors)
    categories = table["category"].to_pylist()
    scores = np.full(table.num_rows, np.nan, np.float32)
    for position, label, value in zip(positions.tolist(), labels.tolist(), confidence.tolist(), strict=True):
        categories[position], scores[position] = taxonomy.names[label], value
    table = table.append_column("source_category", table["category"])
    table = table.set_column(table.column_names.index("category"), table.schema.field("category"), pa.array(categories, pa.string()))
    return table.append_column("score_category_confidence", pa.array(scores, mask=np.isnan(scores))), taxonomy


def manifest_of(table: pa.Table) -> pa.Table:
    """The manifest's columns and every score."""
    return conform(table.select([*COLUMNS, *(name for name in table.column_names if name.startswith(SCORE_PREFIX))]))


def link_shards(source: Path, destination: Path) -> None:
    """Puts the pool's shards beside the curated manifest without copying bytes where the file system can link."""
    destination.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        try:
            os.link(path, destination / path.name)
        except OSError:
            shutil.copyfile(path, destination / path.name)
