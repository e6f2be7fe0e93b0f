"""`reschedule`: another time for a run that has not started."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from pyoco_cli.client.app import OutputOption, RunId, show
from pyoco_cli.client.connection import gateway
from pyoco_cli.client.run_ids import whole_id
from pyoco_cli.client.times import Delay, ExpiresAt, QueueTtl, StartAt
from pyoco_cli.common.errors import CliError
from pyoco_server.model.errors import ErrorId

if TYPE_CHECKING:
    from pyoco_server.client.requests import MoveArguments


def reschedule(
    context: typer.Context,
    run_id: RunId,
    *,
    start_at: StartAt = None,
    delay_sec: Delay = None,
    expires_at: ExpiresAt = None,
    queue_ttl_sec: QueueTtl = None,
    output: OutputOption = None,
) -> None:
    """Change when a run that has not started may start, or until when."""
    times: MoveArguments = {
        "start_at": start_at,
        "delay_sec": delay_sec,
        "expires_at": expires_at,
        "queue_ttl_sec": queue_ttl_sec,
    }
    if all(value is None for value in times.values()):
        raise CliError(
            ErrorId.INVALID_COMMAND_LINE,
            "reschedule takes a new start, a new expiry, or both",
            usage="pyoco-client reschedule RUN_ID --start-at TIME | --delay SPAN",
        )
    with gateway(context) as client:
        run = client.reschedule_run(whole_id(client, run_id), **times)
    show(run, output, "run_panel")
