"""`whoami`: which gateway commands go to, whose key they carry, and what it may do."""

from __future__ import annotations

import typer

from pyoco_cli.client.app import OutputOption, show
from pyoco_cli.client.connection import GatewayAddress, gateway


def whoami(context: typer.Context, *, output: OutputOption = None) -> None:
    """Show the gateway, whose your key is and what it may do."""
    with gateway(context) as client:
        answer = client.whoami()
    address: GatewayAddress = context.obj
    show({"server": address.server, **answer}, output, "caller")
