"""A change in what a job imports changes its digest; a change elsewhere does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagewright.jobs.code_digest import code_digest


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files = {
        "imagewright/__init__.py": "",
        "imagewright/errors.py": "class E: ...",
        "imagewright/models/__init__.py": "",
        "imagewright/models/dit.py": "def f():\n    from imagewright.models import rope\n",
        "imagewright/models/rope.py": "theta = 256",
        "imagewright/models/ema.py": "decay = 1",
        "imagewright/models/words.txt": "apple",
        "imagewright/report/__init__.py": "",
        "imagewright/report/page.py": "x = 1",
        "imagewright/jobs/__init__.py": "",
        "imagewright/jobs/train.py": (
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from imagewright.models import ema\n"
            "from imagewright.errors import E\ndef run():\n    import imagewright.models.dit\n"
        ),
        "imagewright/config/__init__.py": "",
        "imagewright/config/model.py": "width = 8",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("imagewright/jobs/train.py", True),
        ("imagewright/models/dit.py", True),
        ("imagewright/models/rope.py", True),
        ("imagewright/models/words.txt", True),
        ("imagewright/models/__init__.py", True),
        ("imagewright/config/model.py", True),
        ("imagewright/models/ema.py", False),
        ("imagewright/report/page.py", False),
        ("imagewright/errors.py", False),
    ],
)
def test_only_what_the_job_can_reach_counts(tree: Path, file: str, changes: bool) -> None:
    job = tree / "imagewright/jobs/train.py"
    before = code_digest(job, ["imagewright.config.model"], tree)
    assert code_digest(job, ["imagewright.config.model"], tree) == before
    (tree / file).write_text((tree / file).read_text() + "\n# changed\n")
    assert (code_digest(job, ["imagewright.config.model"], tree) != before) is changes


def test_kept_imports_give_the_same_digest_and_follow_a_change(tree: Path, tmp_path: Path) -> None:
    job, index = tree / "imagewright/jobs/train.py", tmp_path / "kept" / "imports.json"
    before = code_digest(job, ["imagewright.config.model"], tree)
    for _ in range(2):
        assert code_digest(job, ["imagewright.config.model"], tree, index) == before
    (tree / "imagewright/models/dit.py").write_text("from imagewright.models import ema")
    after = code_digest(job, ["imagewright.config.model"], tree, index)
    assert after == code_digest(job, ["imagewright.config.model"], tree) != before


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"a": 1}'])
def test_a_damaged_file_of_kept_imports_is_as_good_as_none(tree: Path, tmp_path: Path, damage: str) -> None:
    job, index = tree / "imagewright/jobs/train.py", tmp_path / "imports.json"
    index.write_text(damage)
    assert code_digest(job, ["imagewright.config.model"], tree, index) == code_digest(job, ["imagewright.config.model"], tree)
