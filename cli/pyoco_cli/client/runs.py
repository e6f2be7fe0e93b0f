"""`get`, `tasks` and `cancel`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pyoco_cli.client.app import OutputOption, RunId, show
from pyoco_cli.client.connection import gateway
from pyoco_cli.client.run_ids import whole_id
from pyoco_cli.common.errors import CliError
from pyoco_cli.common.language import Phrase
from pyoco_server.client.requests import CANCEL_WAIT_SECONDS
from pyoco_server.model.errors import ErrorId


def get(
    context: typer.Context,
    run_id: RunId,
    *,
    records: Annotated[bool, typer.Option("--records", help="With task records.")] = False,
    output: OutputOption = None,
) -> None:
    """Get the snapshot of a run."""
    with gateway(context) as client:
        run_id = whole_id(client, run_id)
        run = client.get_run_with_records(run_id) if records else client.get_run(run_id)
    show(run, output, "run_panel")


def tasks(context: typer.Context, run_id: RunId, output: OutputOption = None) -> None:
    """Get the tasks of a run."""
    with gateway(context) as client:
        run = client.get_tasks(whole_id(client, run_id))
    show(run, output, "tasks_view", items=_tasks, columns=("run_id", "task", "state"))


def _tasks(run: dict[str, Any]) -> list[dict[str, Any]]:
    records = run.get("task_records") or {}
    return [
        {"run_id": run.get("run_id"), "task": name, "state": state} | (records.get(name) or {})
        for name, state in (run.get("tasks") or {}).items()
    ]


def cancel(
    context: typer.Context,
    run: Annotated[
        str | None, typer.Argument(metavar="RUN_ID", help="Id of the run, or its beginning.")
    ] = None,
    *,
    run_id: Annotated[str | None, typer.Option("--run-id", help="The same, as an option.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the run has ended.")] = False,
    timeout_sec: Annotated[
        int, typer.Option(help="With --wait: seconds at most.")
    ] = CANCEL_WAIT_SECONDS,
    reason: Annotated[str | None, typer.Option(help="Why, for people; kept with the run.")] = None,
    requested_by: Annotated[
        str | None, typer.Option(help="Who asks; under authentication that is the API key.")
    ] = None,
    output: OutputOption = None,
) -> None:
    """Cancel a run."""
    if (run is None) == (run_id is None):
        raise CliError(
            ErrorId.INVALID_COMMAND_LINE,
            "cancel takes one run",
            usage="pyoco-client cancel [OPTIONS] RUN_ID",
            hint=Phrase.LIST_RUNS,
        )
    with gateway(context) as client:
        run_id = whole_id(client, run or run_id or "")
        try:
            snapshot = client.cancel_run(
                run_id,
                wait=wait,
                timeout_sec=timeout_sec,
                reason=reason,
                requested_by=requested_by,
            )
        except TimeoutError as error:
            raise CliError(
                "ERR-PYOCO-CANCEL",
                str(error),
                title=Phrase.WAIT_TIMEOUT,
                hint=Phrase.CANCEL_AGAIN.fill(run_id=run_id),
            ) from None
    show(snapshot, output, "run_panel")
