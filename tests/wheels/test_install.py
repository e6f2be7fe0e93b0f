"""Unpacking a wheel."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyoco_server.model.wheel import parse_wheel_name
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
