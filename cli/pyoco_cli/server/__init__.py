"""`pyoco-server`: the gateway and everything that is done beside it."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module

import typer

from pyoco_cli.common.errors import run

_COMMANDS = {
    "up": "pyoco_cli.server.up:up",
    "down": "pyoco_cli.server.detach:down",
    "dev": "pyoco_cli.server.dev:dev",
    "demo": "pyoco_cli.server.demo:demo",
    "status": "pyoco_cli.server.doctor:status",
    "doctor": "pyoco_cli.server.doctor:doctor",
    "backup": "pyoco_cli.server.backup:backup",
    "restore": "pyoco_cli.server.backup:restore",
    "admin": "pyoco_cli.server.migrate:admin",
    "scenario": "pyoco_cli.server.scenario:app",
}
"""Where each command, or group of commands, is; the help lists them in this order."""

_OWN_FLAGS = frozenset({"--help", "-h", "--install-completion", "--show-completion"})


def make_app(wanted: str | None = None) -> typer.Typer:
    """The commands; with ``wanted`` only that one.

    A web server takes a second to import, which whoever asks for the doctor need not wait for.
    """
    app = typer.Typer(
        name="pyoco-server",
        no_args_is_help=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def commands() -> None:
        """Run Pyoco workflows on many machines."""

    for name in [wanted] if wanted in _COMMANDS else _COMMANDS:
        module, _, attribute = _COMMANDS[name].partition(":")
        command = getattr(import_module(module), attribute)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Run `pyoco-server` and return its exit code: 0 done, 1 the user can mend it, 130 Ctrl-C.

    Alone or with flags only it is `pyoco-server up`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in _OWN_FLAGS):
        arguments = ["up", *arguments]
    completing = "_PYOCO_SERVER_COMPLETE" in os.environ
    # What imports make stays for good: looking through it again and again would cost a tenth of the start.
    gc.disable()
    app = make_app(None if completing else arguments[0])
    gc.freeze()
    gc.enable()
    return run(app, arguments)
