"""Where `scenario run` has scenarios played, and which folders it leaves."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from pyoco_cli.server import main
from pyoco_cli.server.scenario import run
from pyoco_server.scenario.document import Scenario, ScenarioError
from pyoco_server.scenario.performance import ScenarioResult


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """The files of two scenarios."""
    made = []
    for name in ("one", "two"):
        file = tmp_path / f"{name}.yaml"
        file.write_text(f"name: {name}\nabout: Nothing happens.\nsteps: [{{say: nothing}}]\n")
        made.append(str(file))
    return made


def test_each_has_an_empty_folder_of_its_own(
    files: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def perform(scenario: Scenario, folder: Path, **_: Any) -> ScenarioResult:
        (folder / "store").write_text(scenario.name)
        return ScenarioResult(scenario.name, 1)

    monkeypatch.setattr(run, "perform", perform)
    kept = tmp_path / "kept"
    command = ["scenario", "run", *files, "--keep", str(kept)]
    assert main(command) == 0
    assert [(kept / name / "store").read_text() for name in ("one", "two")] == ["one", "two"]
    assert main(command) == 1
    assert f"{kept / 'one'} is not empty" in capsys.readouterr().err


def test_only_of_one_that_went_well_nothing_is_kept(
    files: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folders: list[Path] = []

    async def perform(scenario: Scenario, folder: Path, **_: Any) -> ScenarioResult:
        folders.append(folder)
        if scenario.name == "two":
            raise ScenarioError("no nats-server")
        return ScenarioResult(scenario.name, 1)

    monkeypatch.setattr(run, "perform", perform)
    assert main(["scenario", "run", *files]) == 1
    assert f"its files: {folders[1]}" in capsys.readouterr().err
    assert [folder.exists() for folder in folders] == [False, True]
