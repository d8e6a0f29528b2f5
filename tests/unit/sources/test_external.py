"""What the user brings: folders, tars and tables give samples; what cannot be used is counted, never raised."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from imagewright.config.data import DataConfig, ExternalSource, ScenesConfig
from imagewright.data.manifest import read_manifest, table_to_rows
from imagewright.errors import InputError
from imagewright.sources.external import external_samples
from imagewright.sources.ingest import ingest
from imagewright.sources.samples import RawSample


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (1, 2, 3)).save(buffer, "PNG")
    return buffer.getvalue()


PNG = png()


def read(path: Path, kind: str) -> tuple[list[RawSample], Counter[str]]:
    skipped: Counter[str] = Counter()
    section = ExternalSource.model_validate({"name": "mine", "kind": kind, "path": str(path), "licence": "CC0-1.0"})
    return list(external_samples(section, skipped)), skipped


def tar_of(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_a_folder_gives_images_with_the_captions_beside_them(tmp_path: Path) -> None:
    root = tmp_path / "pool"
    (root / "cats").mkdir(parents=True)
    (root / "cats" / "a.png").write_bytes(PNG)
    (root / "cats" / "a.txt").write_text("a cat", encoding="utf-8")
    (root / "b.jpg").write_bytes(b"")
    (root / "b.json").write_text(json.dumps({"caption": "一只猫"}), encoding="utf-8")
    (root / "c.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 4"><image href="http://10.0.0.1/x"/></svg>')
    (tmp_path / "secret.png").write_bytes(PNG)
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    samples, skipped = read(root, "folder")
    assert [(s.category, [c.text for c in s.captions], s.captions[0].language) for s in samples] == [
        ("mine", ["一只猫"], "zh"), ("mine/cats", ["a cat"], "en")]  # fmt: skip
    assert skipped == {"link_outside": 1, "svg_external_reference": 1}


def test_keys_follow_the_name_not_the_order(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(PNG)
    before = read(tmp_path, "folder")[0][0].sample_key
    (tmp_path / "a.png").write_bytes(PNG)
    assert before in {sample.sample_key for sample in read(tmp_path, "folder")[0]}


def test_a_tar_is_read_in_webdatasets_convention_and_a_cut_one_up_to_the_cut(tmp_path: Path) -> None:
    members = {"x/1.png": PNG, "x/1.txt": b"one", "x/2.png": PNG, "x/2.json": b'{"text": "two"}', "x/3.txt": b"no image", "../4.png": PNG}
    tar_of(tmp_path / "a.tar", members)
    samples, skipped = read(tmp_path / "a.tar", "webdataset")
    assert [[c.text for c in sample.captions] for sample in samples] == [["one"], ["two"], []]
    assert not skipped
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "a.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:2600])
    samples, skipped = read(tmp_path / "cut", "webdataset")
    assert len(samples) <= 2 and skipped["cut_tar"] == 1


def test_a_table_gives_bytes_and_refuses_private_urls(tmp_path: Path) -> None:
    rows = {
        "image": [PNG, None, None, PNG],
        "url": [None, "http://127.0.0.1/x.png", "file:///etc/passwd", None],
        "caption": ["a", "b", "c", "again"],
    }
    pq.write_table(pa.table(rows), tmp_path / "list.parquet")
    samples, skipped = read(tmp_path / "list.parquet", "parquet")
    assert [sample.image for sample in samples] == [PNG]
    assert skipped == {"private_address": 1, "url_scheme": 1, "repeated_key": 1}


def test_a_missing_path_is_an_error_for_a_person(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read(tmp_path / "nowhere", "folder")


def test_ingest_counts_what_it_passed_over(tmp_path: Path) -> None:
    source, output = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    (source / "a.png").write_bytes(PNG)
    (source / "b.svg").write_text("<svg")
    external = ExternalSource(name="mine", kind="folder", path=str(source), licence="CC0-1.0")
    counts = ingest(DataConfig(scenes=ScenesConfig(num_samples=0), external=(external,)), output, seed=0)
    assert counts["num_samples"] == 1 == counts["num_skipped_broken"]
    assert [row.source for row in table_to_rows(read_manifest(output))] == ["mine"]


def test_the_caption_of_a_tux_paint_stamp_is_its_english_line(tmp_path: Path) -> None:
    (tmp_path / "coin.png").write_bytes(PNG)
    text = "A coin = money.\naf.utf8='n Munt.\nzh_CN.utf8=硬币\nca@valencia.utf8=Una moneda.\n"
    (tmp_path / "coin.txt").write_text(text, encoding="utf-8")
    ((sample,), _) = read(tmp_path, "folder")
    assert [(caption.language, caption.text.strip()) for caption in sample.captions] == [("en", "A coin = money.")]
