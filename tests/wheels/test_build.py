"""`wheel-build` tries what it packs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyoco_cli.client import main
from pyoco_cli.common.wheel_project import BadFolder, build_wheel, read_project
from pyoco_cli.common.wheel_trial import try_import

FINE = "from pyoco import task\n\n@task\ndef f():\n    return 1\n"


def built(folder: Path, **modules: str) -> Path:
    place = folder / "our-tasks"
    place.mkdir()
    for name, code in modules.items():
        (place / f"{name}.py").write_text(f"{code}\n")
    out = folder / "out"
    out.mkdir()
    return build_wheel(read_project(place, None), "1.2", out)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import sys; sys.exit(0)", "raised SystemExit: 0"),
        ("raise KeyboardInterrupt", "raised KeyboardInterrupt"),
        ("import os; os._exit(0)", "ended the process that imported it, with exit code 0"),
        ("while True: pass", "did not end within 1 s"),
        ("''.nothing", "raised AttributeError"),
        ("from fine import nothing", "raised ImportError: cannot import name 'nothing'"),
    ],
)
def test_what_cannot_be_imported_is_refused(tmp_path: Path, code: str, why: str) -> None:
    wheel = built(tmp_path, fine=FINE, script=code)
    with pytest.raises(BadFolder) as caught:
        try_import(wheel, 1.0)
    text = str(caught.value)
    assert why in text
    assert "of distribution 'our-tasks 1.2'" in text


def test_what_is_fine_and_what_lacks_another_distribution_is_not(tmp_path: Path) -> None:
    assert try_import(built(tmp_path, fine=FINE), 20.0) == []
    (tmp_path / "more").mkdir()
    wheel = built(tmp_path / "more", fine=FINE, deep="from not_here_at_all.sub import g")
    assert {each.missing for each in try_import(wheel, 20.0)} == {"not_here_at_all"}


def test_the_command_refuses_such_a_folder_and_keeps_no_wheel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "tasks", tmp_path / "out"
    folder.mkdir()
    (folder / "script.py").write_text("print('working'); raise SystemExit(0)\n")
    command = ["wheel-build", str(folder), "--no-upload", "--out", str(out)]
    assert main(command) == 1
    assert "module 'script' of distribution 'tasks 0.1.0' raised SystemExit: 0" in (
        capsys.readouterr().err
    )
    assert list(out.iterdir()) == []
    assert main([*command, "--no-check-import"]) == 0
    assert Path(json.loads(capsys.readouterr().out)["path"]).is_file()
