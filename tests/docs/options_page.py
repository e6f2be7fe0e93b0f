"""`docs/reference/options.md`: every option of every command, as the programs know them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from pyoco_cli.admin import app as admin
from pyoco_cli.client import app as client
from pyoco_cli.server import app as server
from pyoco_cli.worker import app as worker

_HEAD = """\
# Options

Every option of every command; what the commands do is told in [Commands](commands.md). `-h` or
`--help` shows the same in a terminal.

<!-- Made by tests/docs/pages.py; a test compares it with the code. -->
"""
_EVERYWHERE = {"--help", "--install-completion", "--show-completion"}


def programs() -> dict[str, Any]:
    """The click command of each program, by its name."""
    apps = {
        "pyoco-server": server,
        "pyoco-worker": worker,
        "pyoco-client": client,
        "pyoco-server-admin": admin,
    }
    return {name: typer.main.get_command(app) for name, app in apps.items()}


def commands() -> Iterator[tuple[str, Any]]:
    """Each command with what is typed for it; groups before what is in them."""
    for name, command in programs().items():
        yield from _walk(name, command)


def options_page() -> str:
    """The page as the code has it."""
    return _HEAD + "".join(_section(name, command) for name, command in commands())


def _walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for word, inner in getattr(command, "commands", {}).items():
        if not inner.hidden:
            yield from _walk(f"{name} {word}", inner)


def _section(name: str, command: Any) -> str:
    rows = [
        f"| `{'`, `'.join([*param.opts, *param.secondary_opts])}` | {_cell(param.help or '')} |\n"
        for param in command.params
        if param.param_type_name == "option"
        and not param.hidden
        and not _EVERYWHERE.intersection(param.opts)
    ]
    if not rows:
        return ""
    return f"\n## {name}\n\n| option | meaning |\n| --- | --- |\n" + "".join(rows)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
