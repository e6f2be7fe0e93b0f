"""`get`, `tasks`, `list-vnext` and `cancel`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, TypeAlias

import typer

from pyoco_cli.client.app import OutputOption, RunId, draw, show
from pyoco_cli.client.connection import gateway
from pyoco_cli.common.errors import CliError
from pyoco_cli.common.language import Phrase
from pyoco_cli.common.output import on_terminal, print_json, print_line, print_table
from pyoco_server.client.requests import CANCEL_WAIT_SECONDS


class ListOutput(StrEnum):
    """How a list is printed."""

    JSON = "json"
    TABLE = "table"


COLUMNS = ("run_id", "status", "flow_name", "tag", "updated_at")

Status: TypeAlias = Annotated[str | None, typer.Option(help="Only runs of that status.")]
FlowName: TypeAlias = Annotated[str | None, typer.Option(help="Only runs of that flow.")]
Tag: TypeAlias = Annotated[str | None, typer.Option(help="Only runs of that tag.")]
Full: TypeAlias = Annotated[bool, typer.Option("--full", help="Whole snapshots.")]
Limit: TypeAlias = Annotated[int | None, typer.Option(help="How many, 1 to 200.")]
Sha256: TypeAlias = Annotated[
    str | None,
    typer.Option("--workflow-yaml-sha256", help="Only runs of that flow.yaml, in hex."),
]
UpdatedAfter: TypeAlias = Annotated[
    float | None, typer.Option(help="Only runs that changed after it, in unix seconds.")
]
ListOutputOption: TypeAlias = Annotated[
    ListOutput | None,
    typer.Option("--output", help="json: a line; table: columns, the default on a terminal."),
]


def get(
    context: typer.Context,
    run_id: RunId,
    *,
    records: Annotated[bool, typer.Option("--records", help="With task records.")] = False,
    output: OutputOption = None,
) -> None:
    """Get the snapshot of a run."""
    with gateway(context) as client:
        run = client.get_run_with_records(run_id) if records else client.get_run(run_id)
    show(run, output, "run_panel")


def tasks(context: typer.Context, run_id: RunId, output: OutputOption = None) -> None:
    """Get the tasks of a run."""
    with gateway(context) as client:
        run = client.get_tasks(run_id)
    show(run, output, "tasks_view")


def list_vnext(
    context: typer.Context,
    *,
    status: Status = None,
    flow: FlowName = None,
    tag: Tag = None,
    full: Full = False,
    limit: Limit = None,
    updated_after: UpdatedAfter = None,
    cursor: Annotated[
        str | None, typer.Option(help="Where to go on: next_cursor of the page before.")
    ] = None,
    workflow_yaml_sha256: Sha256 = None,
    output: ListOutputOption = None,
) -> None:
    """List runs page by page, as {items, next_cursor}."""
    with gateway(context) as client:
        page = client.list_runs_vnext(
            status=status,
            flow=flow,
            tag=tag,
            full=full,
            limit=limit,
            updated_after=updated_after,
            cursor=cursor,
            workflow_yaml_sha256=workflow_yaml_sha256,
        )
    match output:
        case ListOutput.TABLE if not on_terminal():
            print_table(COLUMNS, [columns_of(run) for run in page["items"]])
            if page.get("next_cursor"):
                print_line(f"next_cursor: {page['next_cursor']}")
        case None | ListOutput.TABLE if on_terminal():
            draw("runs_page", page)
        case _:
            print_json(page)


def cancel(
    context: typer.Context,
    *,
    run_id: Annotated[str, typer.Option("--run-id", help="Id of the run.")],
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
    with gateway(context) as client:
        try:
            run = client.cancel_run(
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
    show(run, output, "run_panel")


def columns_of(run: dict[str, Any]) -> list[str]:
    """The cells of a run in a plain table."""
    return [str(run.get(column, "-")) for column in COLUMNS]
