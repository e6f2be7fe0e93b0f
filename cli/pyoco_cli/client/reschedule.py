"""`reschedule`: another time for a run that has not started."""

from __future__ import annotations

import typer

from pyoco_cli.client.app import OutputOption, RunId, show
from pyoco_cli.client.connection import gateway
from pyoco_cli.client.run_ids import whole_id
from pyoco_cli.client.times import MoveOptions
from pyoco_cli.common.errors import CliError
from pyoco_cli.common.option_groups import with_options


@with_options(times=MoveOptions)
def reschedule(
    context: typer.Context,
    run_id: RunId,
    *,
    times: MoveOptions,
    output: OutputOption = None,
) -> None:
    """Change when a run that has not started may start, or until when."""
    if all(value is None for value in times.values()):
        raise CliError(
            "reschedule takes a new start, a new expiry, or both",
            usage="pyoco-client reschedule RUN_ID --start-at TIME | --delay SPAN",
        )
    with gateway(context) as client:
        run = client.reschedule_run(whole_id(client, run_id), **times)
    show(run, output, "run_panel")
