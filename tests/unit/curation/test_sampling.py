"""Hierarchical sampling: shares follow the formula worked out by hand, floors and caps hold, and a seed repeats it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imagewright.config.curation import SamplingConfig
from imagewright.curation import sampling
from imagewright.curation.sampling import weigh
from imagewright.data.manifest import ManifestRow, read_manifest, rows_to_table, write_manifest

PLAIN = SamplingConfig(temperature=0.5, aesthetic_weight=0, inner_weight=0, category_floor=0, sample_floor=0, max_repeats=1000)


def pool(path: Path, sizes: dict[str, int], looks: dict[str, list[float]] | None = None, split: str = "train") -> Path:
    rows = [
        ManifestRow(f"{name}-{i}", "s.tar", 0, 1, "0" * 64, category=name, split=split) for name, size in sizes.items() for i in range(size)
    ]
    scores = [look for name, size in sizes.items() for look in (looks or {}).get(name, [0.5] * size)]
    write_manifest(path, rows_to_table(rows).append_column("score_aesthetic", pa.array(scores, pa.float32())))
    return path


def test_what_does_not_fit_into_memory_is_spilled_beside_the_destination(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "in.parquet"
    count = 400_000
    names = pa.array([f"category-{i}" for i in range(count)])
    pq.write_table(
        pa.table(
            {
                "sample_key": names,
                "category": names,
                "split": pa.array(["train"] * count),
                "drop_reason": pa.array([""] * count),
                "score_aesthetic": pa.array(np.linspace(0, 1, count, dtype=np.float32)),
                "sampling_weight": pa.array(np.ones(count, dtype=np.float32)),
            }
        ),
        source,
    )
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / ".tmp").touch()  # where DuckDB would spill by itself: a folder cannot be made there
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr(sampling, "MEMORY_LIMIT", "100MB")
    weigh(source, tmp_path / "out.parquet", PLAIN, 0)
    assert sum(weights(tmp_path / "out.parquet").values()) == pytest.approx(count, rel=1e-4)
    assert {path.name for path in tmp_path.iterdir()} == {"in.parquet", "out.parquet", "elsewhere"}


def weights(path: Path) -> dict[str, float]:
    table = read_manifest(path, columns=["sample_key", "sampling_weight"])
    return dict(zip(table["sample_key"].to_pylist(), table["sampling_weight"].to_pylist(), strict=True))


def test_shares_follow_the_square_root_of_the_sizes(tmp_path: Path) -> None:
    shares = weigh(pool(tmp_path / "in.parquet", {"a": 64, "b": 16, "c": 4}), tmp_path / "out.parquet", PLAIN, 0)
    assert [share.category for share in shares] == ["a", "b", "c"]
    assert [share.target for share in shares] == pytest.approx([8 / 14, 4 / 14, 2 / 14])
    found = weights(tmp_path / "out.parquet")
    assert sum(found.values()) == pytest.approx(84, rel=1e-5)
    assert found["c-0"] == pytest.approx(84 * 2 / 14 / 4, rel=1e-5)


@pytest.mark.parametrize(("temperature", "share"), [(1.0, 0.9), (0.0, 0.5)])
def test_temperature_goes_from_natural_to_uniform(tmp_path: Path, temperature: float, share: float) -> None:
    section = PLAIN.model_copy(update={"temperature": temperature})
    assert weigh(pool(tmp_path / "in.parquet", {"a": 90, "b": 10}), tmp_path / "out.parquet", section, 0)[0].target == pytest.approx(share)


def test_better_looking_categories_and_samples_are_favoured(tmp_path: Path) -> None:
    looks = {"a": [0.2] * 10, "b": [0.7] * 5 + [0.9] * 5}
    section = PLAIN.model_copy(update={"aesthetic_weight": 0.5, "inner_weight": 1.0})
    shares = {
        share.category: share
        for share in weigh(pool(tmp_path / "in.parquet", {"a": 10, "b": 10}, looks), tmp_path / "out.parquet", section, 0)
    }
    # Two categories: z = -1 and +1, so the ratio is exp(2 gamma).
    assert shares["b"].target / shares["a"].target == pytest.approx(math.exp(1.0), rel=1e-6)
    found = weights(tmp_path / "out.parquet")
    assert found["b-9"] / found["b-0"] == pytest.approx(math.exp(2.0), rel=1e-4)


def test_floors_keep_the_tail(tmp_path: Path) -> None:
    section = PLAIN.model_copy(update={"temperature": 1.0, "category_floor": 0.5})
    shares = weigh(pool(tmp_path / "in.parquet", {"a": 990, "b": 10}), tmp_path / "out.parquet", section, 0)
    assert shares[1].target == pytest.approx(0.25 / 1.24, rel=1e-6)


def test_no_sample_is_drawn_more_often_than_the_cap_and_the_rest_takes_its_place(tmp_path: Path) -> None:
    section = PLAIN.model_copy(update={"temperature": 0.0, "max_repeats": 4.0})
    shares = weigh(pool(tmp_path / "in.parquet", {"a": 300, "b": 10}), tmp_path / "out.parquet", section, 0)
    found = weights(tmp_path / "out.parquet")
    assert max(found.values()) == 4.0
    assert sum(found.values()) == pytest.approx(310, rel=2e-3)
    assert {share.category: share.expected for share in shares}["b"] == pytest.approx(40 / 310, rel=1e-3)


def test_what_is_dropped_or_held_out_is_never_drawn(tmp_path: Path) -> None:
    kept = ManifestRow("k", "s.tar", 0, 1, "0" * 64, category="a")
    rows = [kept, replace(kept, sample_key="d", drop_reason="blur"), replace(kept, sample_key="v", category="b", split="validation")]
    write_manifest(tmp_path / "in.parquet", rows)
    weigh(tmp_path / "in.parquet", tmp_path / "out.parquet", SamplingConfig(), 0)
    assert weights(tmp_path / "out.parquet") == {"k": 1.0, "d": 0.0, "v": 0.0}


def test_the_same_seed_and_manifest_give_the_same_weights_and_draws(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sizes = {f"c{i}": int(rng.integers(1, 60)) for i in range(30)}
    source = pool(tmp_path / "in.parquet", sizes, {name: rng.random(size).tolist() for name, size in sizes.items()})
    first = weigh(source, tmp_path / "a.parquet", SamplingConfig(), 3)
    second = weigh(source, tmp_path / "b.parquet", SamplingConfig(), 3)
    assert first == second != weigh(source, tmp_path / "c.parquet", SamplingConfig(), 4)
    assert pq.read_table(tmp_path / "a.parquet").equals(pq.read_table(tmp_path / "b.parquet"))


def test_an_empty_pool_is_weighed_without_a_histogram(tmp_path: Path) -> None:
    write_manifest(tmp_path / "in.parquet", [])
    assert weigh(tmp_path / "in.parquet", tmp_path / "out.parquet", SamplingConfig(), 0) == []
