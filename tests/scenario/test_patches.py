"""A twin whose patch replaces nothing is no twin: what it names has to be there, and be loaded."""

from __future__ import annotations

import inspect
import os
import pkgutil
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from pyoco_server.scenario.document import ScenarioError
from pyoco_server.scenario.patches import check_patch, place_patch

FOLDER = Path(__file__).parents[2] / "scenarios"

CODE = """
class Door:
    def open(self):
        return "open"
"""


def started(folder: Path, name: str, code: str) -> subprocess.CompletedProcess[str]:
    """Start a process with a patch that makes ``name`` answer "broken"; return how it went."""
    patch = folder / "patch.py"
    patch.write_text(f'BREAK = {{"{name}": lambda original: lambda *_: "broken"}}\n')
    broken = place_patch(patch, folder)
    (folder / "house.py").write_text(CODE)
    path = os.pathsep.join([str(broken), str(folder)])
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_what_a_patch_names_is_replaced(tmp_path: Path) -> None:
    code = "import house; print(house.Door().open())"
    done = started(tmp_path, "house:Door.open", code)
    assert (done.returncode, done.stdout) == (0, "broken\n"), done.stderr
    check_patch(tmp_path)


@pytest.mark.parametrize("name", ["house:Door.shut", "house:Window.open"])
def test_a_name_that_is_missing_is_an_error(tmp_path: Path, name: str) -> None:
    done = started(tmp_path, name, "import house")
    assert done.returncode != 0
    assert f"the patch finds no {name}" in done.stderr
    with pytest.raises(ScenarioError, match=f"{name}, and there is no such thing"):
        check_patch(tmp_path)


def test_a_module_that_nobody_imports_is_an_error(tmp_path: Path) -> None:
    done = started(tmp_path, "house:Door.open", "")
    assert done.returncode == 0, done.stderr
    with pytest.raises(ScenarioError, match=r"house:Door\.open, which no process has imported"):
        check_patch(tmp_path)


def test_without_a_patch_there_is_nothing_to_check(tmp_path: Path) -> None:
    check_patch(tmp_path)


@pytest.mark.parametrize(
    "path", sorted(FOLDER.glob("**/broken/*.py")), ids=lambda path: str(path.stem)
)
def test_what_takes_a_things_place_is_called_as_that_is(path: Path) -> None:
    """A twin that is called in vain fails for that, and shows nothing of what it is about."""
    for name, make in runpy.run_path(str(path))["BREAK"].items():
        original = pkgutil.resolve_name(name)
        kinds = inspect.signature(original).parameters.values()
        positional = [p.name for p in kinds if p.kind is p.POSITIONAL_OR_KEYWORD]
        named = {p.name: None for p in kinds if p.kind is p.KEYWORD_ONLY}
        inspect.signature(make(original)).bind(*positional, **named)
