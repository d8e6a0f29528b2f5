"""A pipeline run by itself is fed with records: from the registries, an earlier run, a digest or a file; every mistake is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from imagewright.config import Config, load_recipe
from imagewright.errors import InputError
from imagewright.jobs.component import NOT_GIVEN, import_record
from imagewright.jobs.job import JobError
from imagewright.launch.inputs import resolve_inputs, run_parameters
from imagewright.launch.ir import PipelineIR
from imagewright.launch.pipelines import compile_pipeline
from imagewright.registry import create_repository, open_registry
from imagewright.storage import Store, open_store
from imagewright.storage.records import Record, read_record, write_record


@pytest.fixture(scope="module")
def distillation() -> PipelineIR:
    return compile_pipeline("distillation", load_recipe("debug"))


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"IMAGEWRIGHT_STORE_URL": f"file://{tmp_path}/store"}


@pytest.fixture
def store(environ: dict[str, str]) -> Store:
    return open_store(environ["IMAGEWRIGHT_STORE_URL"])


def model(store: Store) -> Record:
    return Record(job="finetune-sft", kind="model", digest=store.put_bytes(b"weights"))


def folder(path: Path) -> Path:
    path.mkdir()
    (path / "latents.txt").write_text("latents")
    return path


@pytest.mark.parametrize(
    ("name", "required", "optional"),
    [
        ("pretraining", {"latents"}, {"vae"}),
        ("post_training", {"curated", "latents", "base", "vae"}, {"aes", "votes"}),
        ("distillation", {"latents", "curated", "model", "experts", "vae"}, set()),
        ("prompt_enhancer", {"curated"}, {"model", "vae", "aes"}),
        ("aesthetic_model", {"curated"}, {"votes"}),
        ("evaluation", {"curated", "base", "vae"}, {"sft", "dpo", "turbo", "enhancer", "aes"}),
        ("data_curation", set(), set()),
    ],
)
def test_every_pipeline_says_what_it_is_fed_with(name: str, required: set[str], optional: set[str]) -> None:
    pipeline = compile_pipeline(name, load_recipe("debug"))
    declared = pipeline.inputs()
    assert {key for key, one in declared.items() if one.required} == required
    assert {key for key, one in declared.items() if not one.required} == optional
    assert not any(job.startswith("import") for job in pipeline.jobs())


def test_records_come_from_a_registry_a_run_a_digest_and_a_file(
    distillation: PipelineIR, store: Store, environ: dict[str, str], tmp_path: Path
) -> None:
    create_repository(tmp_path / "registry.git")
    environ["IMAGEWRIGHT_REGISTRY_URL"] = str(tmp_path / "registry.git")
    dataset = store.put_folder(folder(tmp_path / "data"), dvc_layout=True)
    registry = open_registry(environ["IMAGEWRIGHT_REGISTRY_URL"], store, identity="A <a@b.example>")
    revision = registry.commit("latents", dataset, "first")
    record = model(store)
    store.put_named("runs/monday/finetune-sft.json", record.model_dump_json().encode())
    write_record(record, tmp_path / "record.json")
    for reference in ("monday/finetune-sft", record.digest, record.uri, str(tmp_path / "record.json")):
        others = [f"{name}={record.digest}" for name in ("experts", "vae")]
        found = resolve_inputs(distillation, [f"latents={revision}", f"curated={dataset}", f"model={reference}", *others], environ)
        assert found["model"].digest == record.digest
    assert (found["latents"].digest, found["latents"].revision) == (dataset, "latents@v1")
    parameters = run_parameters(Config(), found)
    assert json.loads(parameters["inputs"])["latents"]["digest"] == dataset


def test_every_mistake_is_named_at_once(distillation: PipelineIR, store: Store, environ: dict[str, str]) -> None:
    dataset = Record(job="encode-latents", kind="dataset", digest=store.put_bytes(b"data"))
    store.put_named("runs/monday/encode-latents.json", dataset.model_dump_json().encode())
    given = ["model=monday/encode-latents", "experts=monday/none", "lattents=x@v1", "nonsense", "model=twice"]
    with pytest.raises(InputError) as caught:
        resolve_inputs(distillation, given, environ)
    for words in (
        "--input model: must be a model",
        "names no record; received 'monday/none'",
        "--input lattents: is not an input of distillation",
        "must look like NAME=REFERENCE",
        "--input model: is given twice",
        "misses latents, a dataset",
    ):
        assert words in str(caught.value), str(caught.value)


def test_a_payload_that_is_gone_is_named_before_anything_runs(distillation: PipelineIR, environ: dict[str, str], tmp_path: Path) -> None:
    write_record(Record(job="x", kind="model", digest="e" * 64), tmp_path / "gone.json")
    with pytest.raises(InputError, match="not complete in the store"):
        resolve_inputs(distillation, [f"model={tmp_path / 'gone.json'}"], environ)


def test_a_pipeline_that_needs_nothing_opens_no_store() -> None:
    assert resolve_inputs(compile_pipeline("data_curation", load_recipe("debug")), [], {}) == {}


class Output:
    """What KFP gives a component."""

    def __init__(self, path: Path) -> None:
        self.path, self.metadata = str(path), dict[str, Any]()


def test_a_record_is_handed_on_and_one_left_out_is_marked(tmp_path: Path) -> None:
    record = Record(job="finetune-sft", kind="model", digest="a" * 64, revision="sft@3")
    output = Output(tmp_path / "sft.json")
    import_record(json.dumps({"sft": record.model_dump(mode="json")}), "sft", False, output)
    assert read_record(tmp_path / "sft.json") == record
    assert output.metadata == {"digest": "a" * 64, "revision": "sft@3"}
    import_record("{}", "dpo", True, Output(tmp_path / "dpo.json"))
    assert read_record(tmp_path / "dpo.json").job == NOT_GIVEN
    with pytest.raises(JobError, match="misses a record this pipeline needs"):
        import_record("{}", "base", False, Output(tmp_path / "base.json"))
