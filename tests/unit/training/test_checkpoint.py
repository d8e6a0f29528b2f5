"""What a checkpoint folder gives back, and what it refuses."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
import torch

from imagewright.training.checkpoint import BEST, Checkpoint, CheckpointError, CheckpointFolder


def open_folder(path: Path, events: list[tuple[str, str]] | None = None, keep: int = 2, **fingerprint: object) -> CheckpointFolder:
    return CheckpointFolder(
        path, fingerprint, keep=keep, on_event=lambda name, detail: (events if events is not None else []).append((name, detail))
    )


def save(folder: CheckpointFolder, step: int, value: float | None = None) -> bool:
    tensors = {"network-transformer": {"weight.a": torch.full((3, 2), float(step)), "exp_avg.a": torch.zeros(3, 2)}}
    return folder.save(step, tensors, {"step": step, "loader": {"position": step}}, {"cpu": torch.get_rng_state()}, value)


def files(path: Path) -> list[Path]:
    return sorted(path.iterdir())


def newest(folder: CheckpointFolder) -> Checkpoint:
    found = folder.newest()
    assert found is not None
    return found


def test_a_new_run_has_none(tmp_path: Path) -> None:
    assert open_folder(tmp_path).newest() is None


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    save(open_folder(tmp_path), 5)
    found = newest(open_folder(tmp_path))
    assert found.step == 5
    assert found.state["loader"] == {"position": 5}
    assert torch.equal(found.tensors("network-transformer")["weight.a"], torch.full((3, 2), 5.0))
    assert torch.equal(found.tensors("process-00000")["cpu"], torch.get_rng_state())
    assert found.tensors("ema-transformer") == {}


def test_thirty_flipped_bits_anywhere_are_all_found(tmp_path: Path) -> None:
    save(open_folder(tmp_path), 1)
    save(open_folder(tmp_path), 2)
    targets = files(tmp_path / "step-00000002")
    draw = random.Random(0)
    for number in range(30):
        path = targets[number % len(targets)]
        content = bytearray(path.read_bytes())
        bit = draw.randrange(len(content) * 8)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        events: list[tuple[str, str]] = []
        assert newest(open_folder(tmp_path, events)).step == 1, f"bit {bit} of {path.name}"
        assert events[0][0] == "checkpoint_refused"
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
    assert newest(open_folder(tmp_path)).step == 2


@pytest.mark.parametrize("number", range(5))
def test_any_file_cut_short_or_missing_falls_back_to_the_one_before(tmp_path: Path, number: int) -> None:
    save(open_folder(tmp_path), 1)
    save(open_folder(tmp_path), 2)
    path = files(tmp_path / "step-00000002")[number]
    path.write_bytes(path.read_bytes()[:-1])
    assert newest(open_folder(tmp_path)).step == 1
    path.unlink()
    events: list[tuple[str, str]] = []
    assert newest(open_folder(tmp_path, events)).step == 1
    assert path.name in events[0][1]


def test_a_save_that_was_killed_is_not_a_checkpoint_and_the_next_save_clears_it(tmp_path: Path) -> None:
    save(open_folder(tmp_path), 1)
    shutil.copytree(tmp_path / "step-00000001", tmp_path / "step-00000002.partial")
    assert newest(open_folder(tmp_path)).step == 1
    save(open_folder(tmp_path), 3)
    assert not (tmp_path / "step-00000002.partial").exists()


def test_checkpoints_of_which_none_is_whole_are_an_error_not_a_fresh_start(tmp_path: Path) -> None:
    save(open_folder(tmp_path), 1)
    (tmp_path / "step-00000001" / "state.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"state\.json"):
        open_folder(tmp_path).newest()


def test_another_configuration_is_refused_with_every_difference(tmp_path: Path) -> None:
    save(open_folder(tmp_path, layers=2, data="x"), 1)
    with pytest.raises(CheckpointError) as caught:
        open_folder(tmp_path, layers=3, data="y").newest()
    assert {problem.key for problem in caught.value.problems} == {"checkpoint.layers", "checkpoint.data"}
    assert newest(open_folder(tmp_path, layers=2, data="x")).step == 1


def test_the_newest_are_kept_and_the_best_besides(tmp_path: Path) -> None:
    folder = open_folder(tmp_path, keep=2)
    for step, value in enumerate([0.5, 0.2, 0.3, None, 0.4], start=1):
        save(folder, step, value)
    assert folder.steps() == [2, 4, 5]
    assert folder.best() == (2, 0.2)


def test_a_damaged_best_mark_is_forgotten_not_fatal(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    save(folder, 1, 0.5)
    (tmp_path / BEST).write_text("{")
    assert folder.best() is None
    save(folder, 2, 0.9)
    assert folder.best() == (2, 0.9)


def test_a_storage_failure_keeps_the_earlier_checkpoint_and_leaves_nothing_behind(tmp_path: Path) -> None:
    events: list[tuple[str, str]] = []
    folder = open_folder(tmp_path, events)
    save(folder, 1)
    (tmp_path / "step-00000002.partial").write_text("a file where a folder must go")
    assert not save(folder, 2)
    assert events[0][0] == "checkpoint_failed"
    assert newest(folder).step == 1


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    save(folder, 1)
    save(folder, 1)
    assert folder.steps() == [1]
    assert newest(folder).step == 1
