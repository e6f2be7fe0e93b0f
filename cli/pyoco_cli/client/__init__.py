"""`pyoco-client`: the HTTP API from the command line, one module a command or small group."""

from __future__ import annotations

from collections.abc import Sequence

from pyoco_cli.client.app import app
from pyoco_cli.common.errors import run

__all__ = ["app", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run `pyoco-client` and return its exit code: 0 done, 1 the user can mend it, 130 Ctrl-C."""
    return run(app, argv)
