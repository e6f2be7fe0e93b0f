"""`--version`, which all programs have."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

from pyoco_cli.common.output import print_line


def _print(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - few ask for it

        print_line(f"pyoco-server {version('pyoco-server')}")
        raise typer.Exit


Version: TypeAlias = Annotated[
    bool, typer.Option("--version", callback=_print, is_eager=True, help="Print the version.")
]
