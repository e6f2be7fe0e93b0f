"""`pyoco-server init`: a folder to begin with, which runs as it is."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final

import typer

from pyoco_cli.common.errors import CliError
from pyoco_cli.common.output import print_line

_FILES: Final = {
    "flow.yaml": """\
# yaml-language-server: $schema=flow.schema.json
version: 1
flow:
  graph: |
    greet >> shout
  defaults:
    name: world
tasks:
  greet:
    callable: tasks:greet
  shout:
    callable: tasks:shout
    inputs:
      text: $node.greet.output
""",
    "tasks.py": '''\
"""The tasks of flow.yaml: plain functions. What they print is in the logs of the run."""


def greet(name: str) -> str:
    print(f"greeting {name}")
    return f"Hello, {name}!"


def shout(text: str) -> str:
    return text.upper()
''',
    "test_flow.py": '''\
"""Runs the flow on a NATS, gateway and worker of its own. Takes pytest and pytest-trio."""

from pathlib import Path

FLOW = Path(__file__).with_name("flow.yaml")


async def test_the_flow(run_flow):
    run = await run_flow(FLOW, {"name": "Ada"})
    assert run.status == "COMPLETED", run.error
    assert run.task_records["shout"].output == "HELLO, ADA!"
''',
    "pytest.ini": "[pytest]\ntrio_mode = true\n",
    ".env": """\
# Settings of all programs that are started in this folder; the environment wins over them.
# All of them: docs/reference/settings.md
PYOCO_STATE_DIR=.pyoco
# PYOCO_LOG_LEVEL=INFO
""",
    ".gitignore": ".pyoco/\n__pycache__/\n.pytest_cache/\n",
}
_SCHEMA: Final = "flow.schema.json"


def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Folder to make.")] = Path(),
) -> None:
    """Write a flow to begin with: flow.yaml, tasks.py, a test, settings and a schema for editors.

    Files that exist are left as they are, and nothing is written then.
    """
    schema = files("pyoco_cli.server").joinpath(_SCHEMA).read_text(encoding="utf-8")
    texts = _FILES | {_SCHEMA: schema}
    try:
        present = [name for name in texts if (folder / name).exists()]
        if present:
            raise CliError(
                f"{folder} has {', '.join(present)} already",
                hint="pyoco-server init another-folder",
            )
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise CliError(f"cannot write into {folder}: {error}") from None
    for name in texts:
        print_line(str(folder / name))
    print_line("")
    if folder.resolve() != Path.cwd():
        print_line(f"cd {folder}")
    print_line("pyoco-server dev flow.yaml")
