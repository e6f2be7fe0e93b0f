"""`pyoco-server scenario list | check | schema`: what there is, without playing it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pyoco_cli.common.errors import CliError
from pyoco_server.model.counted import counted
from pyoco_server.model.errors import ErrorId
from pyoco_server.scenario.document import Scenario, ScenarioError, json_schema, read_scenario

Folder = Annotated[Path, typer.Argument(help="A folder of scenarios.")]
Files = Annotated[list[Path], typer.Argument(help="Scenario files.")]


def list_scenarios(folder: Folder = Path("scenarios")) -> None:
    """Name the scenarios of a folder and what each shows."""
    found = sorted(folder.glob("*.yaml"))
    if not found:
        raise CliError(f"no *.yaml in {folder}", hint="name another folder")
    for path in found:
        scenario = read(path)
        marks = [
            mark for mark, there in (("long", scenario.long), ("twin", scenario.twin)) if there
        ]
        suffix = f" [{', '.join(marks)}]" if marks else ""
        typer.echo(f"{scenario.name:24} {scenario.about}{suffix}")


def check(files: Files) -> None:
    """Read scenario files and say what is wrong in them, and where."""
    for path in files:
        scenario = read(path)
        typer.echo(f"{path}: {scenario.name}, {counted(len(scenario.steps), 'step')}")


def schema() -> None:
    """Print the JSON schema of a scenario file, for editors."""
    typer.echo(json.dumps(json_schema(), indent=2))


def read(path: Path) -> Scenario:
    """Read a scenario file.

    Raises:
        CliError: It cannot be read or understood.
    """
    try:
        return read_scenario(path)
    except ScenarioError as error:
        raise CliError(
            str(error),
            hint="pyoco-server scenario schema tells the form",
            error_id=ErrorId.INVALID_INPUT,
        ) from None
