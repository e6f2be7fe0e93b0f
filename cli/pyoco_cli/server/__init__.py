"""`pyoco-server`: the gateway and everything that is done beside it."""

from __future__ import annotations

import sys

import typer

from pyoco_cli.common.errors import run
from pyoco_cli.server.backup import backup, restore
from pyoco_cli.server.demo import demo
from pyoco_cli.server.detach import down
from pyoco_cli.server.dev import dev
from pyoco_cli.server.up import up

app = typer.Typer(name="pyoco-server", no_args_is_help=False, rich_markup_mode=None)
app.command()(up)
app.command()(down)
app.command()(dev)
app.command()(demo)
app.command()(backup)
app.command()(restore)


@app.callback()
def _commands() -> None:
    """Run Pyoco workflows on many machines."""


def main() -> None:
    """Entry point; `pyoco-server` alone or with flags only is `pyoco-server up`."""
    arguments = sys.argv[1:]
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in _OWN_FLAGS):
        arguments = ["up", *arguments]
    sys.exit(run(app, arguments))


_OWN_FLAGS = frozenset({"--help", "-h", "--install-completion", "--show-completion"})
