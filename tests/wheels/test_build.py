"""`wheel-build` tries what it packs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyoco_cli.client import main
from pyoco_cli.common.wheel_dependencies import Target, download, missing_here
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


def packed(folder: Path, name: str, version: str, *needs: str) -> Path:
    """A wheel of one module of its own name."""
    project = folder / f"project-{name}"
    project.mkdir(parents=True)
    (project / f"{name}.py").write_text(f"def f():\n    return {name!r}\n")
    (project / "requirements.txt").write_text("\n".join([*needs, "# no more"]))
    return build_wheel(read_project(project, name), version, folder)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from, instead of an index."""
    place = tmp_path / "index"
    place.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(place))
    return place


def test_what_it_depends_on_is_brought_along(index: Path, tmp_path: Path) -> None:
    packed(index, "deepest", "1.0")
    packed(index, "helper", "1.5", "deepest")
    packed(index, "helper2", "3")
    wheel = packed(
        tmp_path, "ours", "1.0", "helper>=1", "pyoco-server", 'helper2; sys_platform == "no"'
    )
    brought = download(wheel, Target(), tmp_path / "out")
    assert [path.name.split("-")[0] for path in brought] == ["deepest", "helper"]
    assert all(path.is_file() for path in brought)
    assert [str(each) for each in missing_here(wheel, ["Deepest"])] == ["helper>=1"]


def test_what_is_not_to_be_had_is_named(index: Path, tmp_path: Path) -> None:
    wheel = packed(tmp_path, "ours", "1.0", "is-nowhere>=2")
    with pytest.raises(BadFolder, match="is-nowhere>=2"):
        download(wheel, Target(), tmp_path / "out")


def test_requirements_that_are_no_text_are_refused_with_their_file(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(FINE)
    (tmp_path / "requirements.txt").write_text("pandas>=2\n", encoding="utf-16")
    with pytest.raises(BadFolder, match=r"requirements.txt: 'utf-8' codec"):
        build_wheel(read_project(tmp_path, "ours"), "1.0", tmp_path)


def test_a_requirement_that_no_wheel_can_have_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(BadFolder, match=r"requirements.txt, line 2: '-r other.txt'"):
        packed(tmp_path, "ours", "1.0", "numpy", "-r other.txt")
