"""The folder of a run is gone after it, whatever the run made of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from isolation.lives import lives
from pyoco_server.model.artifact import FOLDER
from pyoco_server.model.run import RunStatus
from pyoco_server.worker.held_folder import make_held, remove_folder, sweep
from pyoco_server.worker.runner.kin import end_marked, marks_of
from pyoco_server.worker.saved_files import find_saved


def nest(folder: Path, depth: int) -> None:
    """Folders in each other, beyond what a path can name and what calls can be nested."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("inner", dir_fd=descriptor)
        deeper = os.open("inner", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = deeper
    os.close(descriptor)


def look(folder: Path) -> tuple[int, list[str]]:
    return folder.stat().st_mode & 0o777, sorted(each.name for each in folder.iterdir())


@pytest.fixture
def other(tmp_path: Path) -> Path:
    (tmp_path / "other").mkdir(mode=0o750)
    (tmp_path / "other" / "file").touch()
    return tmp_path / "other"


def test_folders_in_each_other_without_end(tmp_path: Path) -> None:
    nest(tmp_path / "run", 2500)
    remove_folder(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
    nest(tmp_path / "work" / "dead", 2500)
    sweep(tmp_path / "work")
    assert list((tmp_path / "work").iterdir()) == []
    held = make_held(tmp_path / "work", "held")
    nest(held.path, 2500)
    held.remove()
    assert list((tmp_path / "work").iterdir()) == []


def test_saved_files_below_folders_without_end(tmp_path: Path) -> None:
    nest(tmp_path / FOLDER, 2500)
    (tmp_path / FOLDER / "inner" / "kept").touch()
    names, refused = find_saved(tmp_path, 100)
    assert names == ["inner/kept"]
    assert [each.reason for each in refused] == ["more than 64 folders are in each other"]
    remove_folder(tmp_path / FOLDER)


def test_what_is_refused_takes_no_place_of_what_can_be_kept(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    for number in range(100):
        (tmp_path / FOLDER / f"link{number}").symlink_to("z.txt")
    (tmp_path / FOLDER / "z.txt").touch()
    names, refused = find_saved(tmp_path, 100)
    assert (names, len(refused)) == (["z.txt"], 100)


@pytest.mark.parametrize("kind", ["link", "link to nothing", "file", "pipe"])
def test_what_stands_in_its_place_goes_and_nothing_behind_it(
    tmp_path: Path, other: Path, kind: str
) -> None:
    place = tmp_path / "run"
    if kind == "file":
        place.touch()
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to(other if kind == "link" else tmp_path / "nowhere")
    remove_folder(place)
    assert not os.path.lexists(place)
    assert look(other) == (0o750, ["file"])


def test_a_closed_folder(tmp_path: Path, other: Path) -> None:
    inner = tmp_path / "run" / "inner"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    (tmp_path / "run" / "link").symlink_to(other)
    inner.chmod(0)
    (tmp_path / "run").chmod(0)
    remove_folder(tmp_path / "run")
    assert list(tmp_path.iterdir()) == [other]
    assert look(other) == (0o750, ["file"])


def test_what_cannot_be_removed_is_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run" / "inner").mkdir(parents=True)
    monkeypatch.setattr(shutil, "rmtree", lambda path: None)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: None)
    remove_folder(tmp_path / "run")
    assert [each.name.partition("-")[0] for each in tmp_path.iterdir()] == ["run.left"]


async def test_the_next_run_is_in_no_folder_that_the_one_before_chose(
    tmp_path: Path, other: Path
) -> None:
    async with lives(tmp_path / "0") as slot:
        await slot.run("count")
        slot.child.folder.rename(tmp_path / "1")
        slot.child.folder.symlink_to(other)
        assert slot.child.is_touched()
        await slot.child.remove_folder()
        told = await slot.run({"callable": "os:getcwd"})
        assert told.finished.status is RunStatus.COMPLETED
        assert told.finished.task_records["a"].output == str(tmp_path / "0")
        assert look(other) == (0o750, ["file"])


def test_to_look_for_what_dead_workers_left_takes_no_time() -> None:
    begun = time.monotonic()
    end_marked(marks_of("nobody"))
    processes = sum(each.name.isdigit() for each in Path("/proc").iterdir())
    most = 10 + processes / 10
    assert time.monotonic() - begun < most, "it took half a second for each process of the machine"
