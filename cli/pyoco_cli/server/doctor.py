"""`pyoco-server doctor` and `status`: what is wrong, and what there is."""

from __future__ import annotations

from functools import partial
from typing import Annotated, TypeAlias

import msgspec
import trio
import typer

from pyoco_cli.client.app import show
from pyoco_cli.client.connection import DEFAULT_SERVER, check_key
from pyoco_cli.common.commands import NatsUrl
from pyoco_cli.common.errors import CliError
from pyoco_cli.common.formats import OutputFormat, OutputOption, chosen
from pyoco_cli.common.output import make_console, printable
from pyoco_cli.server.nats import operator_settings, with_nats
from pyoco_server.model.counted import counted
from pyoco_server.operations.doctor import DoctorReport, Severity, examine
from pyoco_server.operations.status import gateway_status, status_of

Server: TypeAlias = Annotated[
    str, typer.Option(envvar="PYOCO_SERVER_URL", help="URL of the gateway.")
]
# As long as the doctor waits for it.
_CONNECT_SECONDS = 3.0
_FINDING = ("severity", "where", "what", "advice")


def doctor(
    server: Server = DEFAULT_SERVER,
    gateway: Annotated[
        bool, typer.Option("--gateway/--no-gateway", help="Whether to look at the gateway.")
    ] = True,
    api_key: Annotated[
        str | None, typer.Option(envvar="PYOCO_API_KEY", help="A key, to read its metrics.")
    ] = None,
    output: OutputOption = None,
    nats_url: NatsUrl = None,
) -> int:
    """Look the installation over; changes nothing.

    Exits with 0 when nothing has to be done, 1 with warnings, 2 with errors.
    """
    check_key(api_key)
    settings = operator_settings(nats_url)
    header = {} if api_key is None else {settings.http_api_key_header: api_key}

    async def look() -> DoctorReport:
        return await examine(settings, server=server if gateway else None, key_header=header)

    report = trio.run(look)
    if chosen(output) is OutputFormat.TABLE:
        _draw(report)
    else:
        document = {**msgspec.to_builtins(report), "worst": str(report.worst)}
        show(document, output, items=lambda found: found["findings"], columns=_FINDING)
    return report.worst.exit_code


_STYLES = {Severity.INFO: "dim", Severity.WARNING: "yellow", Severity.ERROR: "bold red"}


def _draw(report: DoctorReport) -> None:
    from rich.text import Text  # noqa: PLC0415 - JSON needs no rich

    console = make_console()
    for found in report.findings:
        console.print(
            Text.assemble(
                (found.severity.upper(), _STYLES[found.severity]),
                f"  {printable(found.where)}: {printable(found.what)}",
            )
        )
        console.print(Text.assemble(("  → ", "dim"), printable(found.advice)))
    looked = ", ".join(report.checked)
    if report.findings:
        console.print(
            f"{counted(len(report.findings), 'finding')}; looked at: {looked}", style="dim"
        )
    else:
        console.print(Text.assemble(("all well", "green"), (f"; looked at: {looked}", "dim")))


def status(
    server: Server = DEFAULT_SERVER, output: OutputOption = None, nats_url: NatsUrl = None
) -> None:
    """Show gateway, NATS, queues, workers and runs on one screen."""
    settings = operator_settings(nats_url)
    try:
        found = with_nats(settings, partial(status_of, server=server), within=_CONNECT_SECONDS)
    except CliError as error:
        gateway = trio.run(gateway_status, server)
        reasons = f": {', '.join(gateway.reasons)}" if gateway.reasons else ""
        error.detail = f"the gateway {gateway.url} is {gateway.state}{reasons}"
        raise
    if chosen(output) is not OutputFormat.TABLE:
        show(msgspec.to_builtins(found), output)
        return
    from pyoco_cli.server.screen import status_screen  # noqa: PLC0415 - JSON needs no rich

    make_console().print(status_screen(found))
