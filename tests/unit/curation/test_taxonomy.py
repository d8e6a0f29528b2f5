"""The taxonomy: clusters are found, every image is assigned with a confidence, and many classes are no more than many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from imagewright.config.curation import TaxonomyConfig
from imagewright.curation import taxonomy as module
from imagewright.curation.taxonomy import Taxonomy, fit_taxonomy, load_taxonomy, name_classes

RNG = np.random.default_rng(2)
CENTRES = RNG.standard_normal((4, 16)).astype(np.float32)
CENTRES /= np.linalg.norm(CENTRES, axis=1, keepdims=True)
THINGS = ("red star", "blue circle", "green tree", "old house")
LABELS = np.arange(400) % 4


def clouds() -> np.ndarray:
    vectors = CENTRES[LABELS] + 0.05 * RNG.standard_normal((400, 16)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


@pytest.fixture(scope="module")
def fitted() -> tuple[np.ndarray, Taxonomy]:
    vectors = clouds()
    section = TaxonomyConfig(num_categories=4, num_groups=2)
    return vectors, fit_taxonomy(vectors, [f"a {THINGS[label]} on white" for label in LABELS], section, seed=0)


def test_each_cloud_is_a_class_with_its_own_words_and_a_sure_head(fitted: tuple[np.ndarray, Taxonomy], tmp_path: Path) -> None:
    vectors, taxonomy = fitted
    found, confidence = taxonomy.classify(vectors)
    assert len({(own, label) for own, label in zip(found.tolist(), LABELS.tolist(), strict=True)}) == 4
    assert confidence.min() > 0.5
    names = {taxonomy.names[label].split("/")[1] for label in found}
    assert names == {"-".join(sorted(thing.split())) for thing in THINGS}
    taxonomy.save(tmp_path)
    assert np.array_equal(load_taxonomy(tmp_path).classify(vectors)[0], found)


def test_the_head_learns_from_every_sample_however_small_a_step_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEAD_BATCH", 50)
    vectors = clouds()
    taxonomy = fit_taxonomy(vectors, [""] * 400, TaxonomyConfig(num_categories=4, num_groups=1), seed=0)
    found, confidence = taxonomy.classify(vectors)
    assert len(set(zip(found.tolist(), LABELS.tolist(), strict=True))) == 4 and confidence.min() > 0.5


def test_classes_with_the_same_words_get_a_number() -> None:
    names = name_classes(["red star"] * 4 + [""] * 2, np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 0]))
    assert names == ("red-star/red-star", "red-star/red-star-2", "red-star/unnamed")


def test_ten_thousand_classes_are_named_apart() -> None:
    # Words are counted once for the pool; once for each class, this would run into the suite's time limit.
    texts = [f"thing{'abcdefghij'[i % 10]} number{chr(97 + i // 10 % 26)} of many" for i in range(30_000)]
    names = name_classes(texts, np.arange(30_000) % 10_000, np.arange(10_000) % 100)
    assert len(set(names)) == 10_000
