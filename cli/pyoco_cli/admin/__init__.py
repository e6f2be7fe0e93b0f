"""`pyoco-server-admin`: what an operator does to an installation, straight at its NATS."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from pyoco_cli.common.commands import NatsUrl, Version, on_demand, program
from pyoco_cli.common.errors import run

app = program("pyoco-server-admin")
api_key = typer.Typer(
    help="API keys of the HTTP gateway.",
    cls=on_demand(
        {
            "create": "pyoco_cli.admin.api_key:create",
            "list": "pyoco_cli.admin.api_key:list_keys",
            "revoke": "pyoco_cli.admin.api_key:revoke",
        }
    ),
    rich_markup_mode=None,
)
app.add_typer(api_key, name="api-key")


@app.callback()
def options(
    context: typer.Context,
    nats_url: NatsUrl = None,
    version: Version = False,  # noqa: ARG001 - it is printed before
) -> None:
    """Manage a pyoco-server installation through its NATS."""
    context.obj = nats_url


def main(argv: Sequence[str] | None = None) -> int:
    """Run `pyoco-server-admin` and return its exit code: 0 done, 1 the user can mend it, 2 an unknown key."""
    return run(app, argv)
