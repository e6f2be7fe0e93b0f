"""`pyoco-server`: the gateway and everything that is done beside it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pyoco_cli.common.commands import Version, program
from pyoco_cli.common.errors import run

_COMMANDS = {
    "up": "pyoco_cli.server.up:up",
    "down": "pyoco_cli.server.detach:down",
    "dev": "pyoco_cli.server.dev:dev",
    "init": "pyoco_cli.server.init:init",
    "demo": "pyoco_cli.server.demo:demo",
    "status": "pyoco_cli.server.doctor:status",
    "doctor": "pyoco_cli.server.doctor:doctor",
    "backup": "pyoco_cli.server.backup:backup",
    "restore": "pyoco_cli.server.backup:restore",
    "admin": "pyoco_cli.server.migrate:admin",
    "scenario": "pyoco_cli.server.scenario:app",
}
_OWN_FLAGS = frozenset({"--help", "-h", "--version", "--install-completion", "--show-completion"})

app = program("pyoco-server", _COMMANDS)


@app.callback()
def commands(version: Version = False) -> None:
    """Run Pyoco workflows on many machines. Without a command it is `up`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `pyoco-server` and return its exit code: 0 done, 1 the user can mend it, 130 Ctrl-C.

    Alone or with flags only it is `pyoco-server up`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in _OWN_FLAGS):
        arguments = ["up", *arguments]
    return run(app, arguments)
