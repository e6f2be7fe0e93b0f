"""Gives the processes of a twin its patch, and sees that it replaced what it says."""

from __future__ import annotations

import runpy
from importlib.resources import files
from pathlib import Path

from pyoco_server.scenario.document import ScenarioError


def place_patch(patch: Path, folder: Path) -> Path:
    """Put a patch where processes with the returned folder on ``PYTHONPATH`` load it at their start."""
    broken = folder / "broken"
    broken.mkdir(exist_ok=True)
    loader = files("pyoco_server.scenario").joinpath("break_loader.py").read_text()
    # Python imports `sitecustomize` at every start, so that each process gets the patch.
    (broken / "sitecustomize.py").write_text(loader)
    (broken / "broken.py").write_text(patch.read_text(encoding="utf-8"))
    return broken


def check_patch(folder: Path) -> None:
    """Make sure that everything the patch names was replaced in one process at least.

    Raises:
        ScenarioError: Something was not, so that the twin was not broken and shows nothing.
    """
    broken = folder / "broken"
    if not broken.exists():
        return
    named = runpy.run_path(str(broken / "broken.py"))["BREAK"]
    told = broken / "replaced"
    lines = set(told.read_text(encoding="utf-8").splitlines()) if told.exists() else set()
    for name in named:
        if f"missing {name}" in lines:
            raise ScenarioError(f"the patch replaces {name}, and there is no such thing")
        if f"replaced {name}" not in lines:
            raise ScenarioError(f"the patch replaces {name}, which no process has imported")
