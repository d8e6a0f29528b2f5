"""One command from a model back to its raw data, and from a sample forward to the models that saw it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imagewright.storage import Store, open_store
from imagewright.storage.records import PayloadKind, Record
from imagewright.tracking.lineage import Lineage, sample_key_in
from imagewright.tracking.models import ModelError, ModelOrigin, ModelRegistry


def manifest(keys: list[str], dropped: list[str]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"sample_key": keys + dropped, "drop_reason": [""] * len(keys) + ["duplicate"] * len(dropped)}), out)
    return out.getvalue()


def put(store: Store, folder: Path, name: str, job: str, kind: PayloadKind, content: dict[str, bytes], **inputs: str) -> str:
    """Stores a payload with its record, as a job does."""
    place = folder / name
    place.mkdir(parents=True)
    for path, data in content.items():
        (place / path).write_bytes(data)
    digest = store.put_folder(place)
    record = Record(
        job=job,
        kind=kind,
        digest=digest,
        inputs=inputs,
        git_commit="c0ffee",
        image_digest="sha256:1",
        revision=f"{name}@1" if kind == "dataset" else "",
    )
    store.put_named(f"actions/{name}.json", record.model_dump_json().encode())
    return digest


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"file://{tmp_path}/store")


@pytest.fixture
def chain(store: Store, tmp_path: Path, server_uri: str) -> tuple[Lineage, ModelRegistry, dict[str, str]]:
    """raw -> curated (drops one) -> latents -> base -> sft, and an unrelated enhancer."""
    keys = io.BytesIO()
    np.save(keys, np.array([b"cat", b"a-dog"]))
    raw = put(store, tmp_path, "raw", "ingest-raw", "dataset", {"manifest.parquet": manifest(["cat", "a-dog", "cow"], [])})
    curated = put(store, tmp_path, "curated", "curate", "dataset", {"manifest.parquet": manifest(["cat", "a-dog"], ["cow"])}, raw=raw)
    latents = put(store, tmp_path, "latents", "encode-latents", "dataset", {"keys.npy": keys.getvalue()}, curated=curated)
    base = put(store, tmp_path, "base", "pretrain-dit", "model", {"weights": b"1"}, latents=latents)
    sft = put(store, tmp_path, "sft", "sft-dit", "model", {"weights": b"2"}, base=base)
    put(store, tmp_path, "enhancer", "train-enhancer", "model", {"weights": b"3"})
    registry = ModelRegistry(server_uri)
    registry.register("base", base, ModelOrigin(recipe="demo", pipeline_run="run-1"))
    registry.register("sft", sft, ModelOrigin(recipe="demo", parent=base))
    return Lineage(store, registry), registry, {"raw": raw, "base": base, "sft": sft}


def test_a_model_leads_back_to_its_raw_data_commit_and_image(chain: tuple[Lineage, ModelRegistry, dict[str, str]]) -> None:
    lineage, registry, digests = chain
    (version,) = registry.find(digests["sft"])
    node = lineage.of_model(version)
    names = []
    while True:
        names.append(node.name.partition("@")[0])
        assert (node.details["commit"], node.details["image"]) == ("c0ffee", "sha256:1")
        if not node.sources:
            break
        (node,) = node.sources
    assert names == ["sft", "base", "latents", "curated", "raw"]
    assert node.digest == digests["raw"]
    text = "\n".join(lineage.of_model(version).lines())
    assert "recipe: demo" in text and "pipeline run: run-1" in text


def test_a_sample_leads_to_its_datasets_and_the_models_that_saw_it(chain: tuple[Lineage, ModelRegistry, dict[str, str]]) -> None:
    lineage, registry, digests = chain
    base, sft = (str(registry.find(digests[name])[0]) for name in ("base", "sft"))
    use = lineage.of_sample("cat")
    assert {record.revision for record in use.datasets} == {"raw@1", "curated@1", "latents@1"}
    assert use.models == {base: "latents@1", sft: f"through {base}"}


def test_a_sample_that_curation_dropped_was_seen_by_no_model(chain: tuple[Lineage, ModelRegistry, dict[str, str]]) -> None:
    use = chain[0].of_sample("cow")
    assert [record.revision for record in use.datasets] == ["raw@1"]
    assert use.models == {}
    assert chain[0].of_sample("dog").datasets == ()


def test_a_record_that_names_itself_is_an_error_not_an_endless_walk(store: Store, server_uri: str) -> None:
    one, two = store.put_bytes(b"one"), store.put_bytes(b"two")
    for digest, source in ((one, two), (two, one)):
        record = Record(job="sft-dit", kind="model", digest=digest, inputs={"base": source})
        store.put_named(f"actions/{digest}.json", record.model_dump_json().encode())
    registry = ModelRegistry(server_uri)
    with pytest.raises(ModelError, match="circle"):
        Lineage(store, registry).of_model(registry.register("sft", one))


def test_tables_without_sample_keys_name_no_sample() -> None:
    out = io.BytesIO()
    pq.write_table(pa.table({"name": ["cat"]}), out)
    assert not sample_key_in(out.getvalue(), "x.parquet", "cat")
    numbers = io.BytesIO()
    np.save(numbers, np.zeros(3))
    assert not sample_key_in(numbers.getvalue(), "keys.npy", "cat")
