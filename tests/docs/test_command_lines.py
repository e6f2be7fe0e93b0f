"""Commands that pages show but no test runs (`sh` blocks) are ours, with options that they have."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from docs.pages import ROOT
from pyoco_cli.admin import app as admin
from pyoco_cli.client import app as client
from pyoco_cli.server import app as server
from pyoco_cli.worker import app as worker

PROGRAMS = {
    "pyoco-server": server,
    "pyoco-worker": worker,
    "pyoco-client": client,
    "pyoco-server-admin": admin,
}
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
CODE = ("actors", "http", "cli", "tests")
ALL = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]
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


def options_of(command: Any) -> set[str]:
    """All options of a program, its commands' included."""
    own = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    return own.union(*map(options_of, getattr(command, "commands", {}).values()))


@pytest.mark.parametrize("page", ALL, ids=lambda page: str(page.relative_to(ROOT)))
def test_options_and_variables_in_the_text_exist(page: Path) -> None:
    known = set[str]().union(*(options_of(typer.main.get_command(a)) for a in PROGRAMS.values()))
    spans = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", page.read_text())
    ours = [
        span for span in spans if not re.match(r"(nats|systemctl|docker|uv run pytest)\b", span)
    ]
    options = {option for span in ours for option in re.findall(r"(?<![\w-])--[a-z][\w-]+", span)}
    # nats-server has the first, Celery the second, the benchmark the third, uv the fourth; the last is an
    # abbreviation, named as one that is refused.
    foreign = {"--cluster", "--concurrency", "--peers", "--no-dev", "--help", "--lim"}
    assert options - foreign <= known
    variables = set(re.findall(r"\bPYOCO_[A-Z_]*[A-Z]\b(?!_)", page.read_text()))
    assert variables <= words_of_the_code()


@cache
def words_of_the_code() -> frozenset[str]:
    files = [file for name in CODE for file in (ROOT / name).rglob("*.py")]
    return frozenset(
        word for file in files for word in re.findall(r"\bPYOCO_\w+", file.read_text())
    )
