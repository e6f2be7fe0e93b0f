"""Unpacking a wheel."""

from __future__ import annotations

import errno
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from pyoco_server.model.wheel import parse_wheel_name
from pyoco_server.model.wheel_archive import BadWheel
from pyoco_server.worker import wheel_install
from pyoco_server.worker.wheel_install import install_wheel
from wheels.making import file_name, wheel_bytes, with_bomb


def unpacked(folder: Path, data: bytes) -> Path:
    """The folder that a wheel of these bytes was unpacked to."""
    archive = folder / file_name()
    archive.write_bytes(data)
    target = folder / "unpacked"
    target.mkdir()
    install_wheel(archive, parse_wheel_name(archive.name), target)
    return target


def test_modules_are_compiled_and_what_is_no_python_is_left_alone_without_a_word(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = {"good.py": "X = 1\n", "templates/model.py": "class {{ name }}:\n"}
    target = unpacked(tmp_path, wheel_bytes(files=files))
    assert (target / "templates" / "model.py").read_text() == files["templates/model.py"]
    compiled = [path.name.partition(".")[0] for path in target.rglob("*.pyc")]
    assert compiled == ["good"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "text",
    [
        "[console_scripts]\na = tasks\n",
        "a = tasks:tell\n",
        "[console_scripts]\na = tasks:tell\na = tasks:tell\n",
        # configparser's patterns take time by the square of a line, and hold the interpreter meanwhile.
        f"[console_scripts]\na{' ' * 1_000_000}b\n",
    ],
)
def test_entry_points_are_a_file_like_any_other(tmp_path: Path, text: str) -> None:
    """One that installer could not read stopped all wheels, and nobody runs the scripts that it makes."""
    target = unpacked(tmp_path, wheel_bytes(entry_points=text))
    assert (target / "tasks-1.0.dist-info" / "entry_points.txt").read_text() == text
    assert not (target / "bin").exists()


def test_a_source_that_takes_long_to_compile_is_not(tmp_path: Path) -> None:
    files = {"table.py": "a=1\n" * 500_000, "small.py": "a=1\n"}
    target = unpacked(tmp_path, wheel_bytes(files=files))
    assert [path.name.partition(".")[0] for path in target.rglob("*.pyc")] == ["small"]


def test_a_text_is_unpacked_no_further_than_the_archive_says(tmp_path: Path) -> None:
    """A wheel of a quarter of a megabyte took as much memory as there was, of the gateway too."""
    data = with_bomb()
    tracemalloc.start()
    try:
        unpacked(tmp_path, data)
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RecursionError("too deep"), "RecursionError: too deep"),
        (AssertionError(), "AssertionError"),
        (OSError(errno.ENAMETOOLONG, "File name too long"), "File name too long"),
        (FileExistsError(errno.EEXIST, "File exists"), "File exists"),
        (OSError(errno.ENOSPC, "No space left on device"), None),
        (OSError(errno.EMFILE, "Too many open files"), None),
    ],
)
def test_whatever_goes_wrong_is_the_wheels_fault_but_for_want_of_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str | None
) -> None:
    def install(*_: Any) -> None:
        raise error

    monkeypatch.setattr(wheel_install, "install", install)
    with pytest.raises(BadWheel if told else OSError, match=told):
        unpacked(tmp_path, wheel_bytes())
