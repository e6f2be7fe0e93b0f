"""Unpacking a wheel."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyoco_server.model.wheel import parse_wheel_name
from pyoco_server.model.wheel_archive import BadWheel
from pyoco_server.worker.wheel_install import install_wheel
from wheels.making import file_name, wheel_bytes


def test_modules_are_compiled_and_what_is_no_python_is_left_alone_without_a_word(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / file_name()
    files = {"good.py": "X = 1\n", "templates/model.py": "class {{ name }}:\n"}
    archive.write_bytes(wheel_bytes(files=files))
    target = tmp_path / "unpacked"
    target.mkdir()
    install_wheel(archive, parse_wheel_name(archive.name), target)
    assert (target / "templates" / "model.py").read_text() == files["templates/model.py"]
    compiled = [path.name.partition(".")[0] for path in target.rglob("*.pyc")]
    assert compiled == ["good"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "wheel",
    [
        wheel_bytes(entry_points="[console_scripts]\ntool = tasks\n"),
        wheel_bytes(entry_points="[console_scripts]\ntool\n"),
        wheel_bytes(entry_points="tool = tasks:main\n"),
        wheel_bytes(files={"tasks": "", "tasks/deep/module.py": ""}),
        wheel_bytes(files={f"{'a' * 300}.py": ""}),
    ],
)
def test_what_no_worker_can_unpack_is_a_bad_wheel(tmp_path: Path, wheel: bytes) -> None:
    """Anything else would be a fault of the machine's, for which all other wheels wait."""
    archive, target = tmp_path / file_name(), tmp_path / "unpacked"
    archive.write_bytes(wheel)
    target.mkdir()
    with pytest.raises(BadWheel, match="cannot be installed"):
        install_wheel(archive, parse_wheel_name(archive.name), target)
