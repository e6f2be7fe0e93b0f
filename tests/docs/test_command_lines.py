"""Commands that pages show but no test runs (`sh` blocks) are ours, with options that they have."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from docs.pages import ROOT
from pyoco_cli.admin import app as admin
from pyoco_cli.client import app as client
from pyoco_cli.server import make_app
from pyoco_cli.worker import app as worker

PROGRAMS = {
    "pyoco-server": make_app(),
    "pyoco-worker": worker,
    "pyoco-client": client,
    "pyoco-server-admin": admin,
}
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = sorted(page for page in (ROOT / "docs").rglob("*.md") if _BLOCK.search(page.read_text()))


def parse(line: str) -> None:
    """Read a command line as the program would, without doing it.

    Raises:
        click.UsageError: There is no such command or option, or something is missing.
    """
    program, *words = shlex.split(line, comments=True)
    command: Any = typer.main.get_command(PROGRAMS[program])
    context = command.make_context(program, words)
    while hasattr(command, "commands"):
        name, command, words = command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        context = command.make_context(name, list(words), parent=context)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_shows_can_be_typed(page: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = _BLOCK.findall(page.read_text())
    for line in (line for block in blocks for line in block.splitlines()):
        parse(line)


@pytest.mark.parametrize("line", ["pyoco-client artefacts R", "pyoco-server up --nats-port 1"])
def test_what_cannot_be_typed_is_found(line: str) -> None:
    with pytest.raises(Exception, match="No such"):
        parse(line)
