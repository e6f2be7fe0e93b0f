"""`result`: what the tasks of a run returned."""

from __future__ import annotations

from typing import Annotated

import typer

from pyoco_cli.client.app import OutputOption, RunId, show
from pyoco_cli.client.connection import gateway
from pyoco_cli.client.run_ids import whole_id


def result(
    context: typer.Context,
    run_id: RunId,
    task: Annotated[
        str | None, typer.Argument(metavar="TASK", help="Print the result of this task, as JSON.")
    ] = None,
    *,
    output: OutputOption = None,
) -> None:
    """List what the tasks of a run returned, or print what one of them did."""
    with gateway(context) as client:
        run_id = whole_id(client, run_id)
        if task is not None:
            show(client.get_result(run_id, task), output)
            return
        listing = client.list_results(run_id)
    columns = ("task", "size_bytes", "media_type", "cut", "refused")
    show(listing, output, "results_table", items=lambda found: found["results"], columns=columns)
