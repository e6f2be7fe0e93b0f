"""`get`, `tasks`, `result` and `reschedule`: one run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from pyoco_cli.client.app import OutputOption, RunId, show
from pyoco_cli.client.connection import gateway
from pyoco_cli.client.run_ids import whole_id
from pyoco_cli.client.times import MoveOptions
from pyoco_cli.client.waiting import tell_why_it_waits
from pyoco_cli.common.errors import CliError
from pyoco_cli.common.formats import OutputFormat, chosen, items_of
from pyoco_cli.common.option_groups import with_options
from pyoco_cli.common.output import on_terminal


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
        # For people, they say where a task failed.
        whole = records or chosen(output) is OutputFormat.TABLE
        run = client.get_run_with_records(run_id) if whole else client.get_run(run_id)
        if on_terminal():
            tell_why_it_waits(client, run)
    show(run, output, "run_views:run_panel")


def tasks(context: typer.Context, run_id: RunId, output: OutputOption = None) -> None:
    """Get the tasks of a run."""
    with gateway(context) as client:
        run = client.get_tasks(whole_id(client, run_id))
    show(run, output, "run_views:tasks_view", items=_tasks, columns=("run_id", "task", "state"))


def _tasks(run: dict[str, Any]) -> list[dict[str, Any]]:
    records = run.get("task_records") or {}
    return [
        {"run_id": run.get("run_id"), "task": name, "state": state} | (records.get(name) or {})
        for name, state in (run.get("tasks") or {}).items()
    ]


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
            show(client.get_result(run_id, task), output, items=_lines_of_result)
            return
        listing = client.list_results(run_id)
    columns = ("task", "size_bytes", "media_type", "cut", "refused")
    show(
        listing,
        output,
        "run_views:results_table",
        items=lambda found: found["results"],
        columns=columns,
    )


def _lines_of_result(value: Any) -> Iterable[Mapping[str, Any]]:
    # What a task returned is no page of ours, whatever its fields are called.
    return [value] if isinstance(value, Mapping) else items_of(value)


@with_options(times=MoveOptions)
def reschedule(
    context: typer.Context, run_id: RunId, *, times: MoveOptions, output: OutputOption = None
) -> None:
    """Change when a run that has not started may start, or until when."""
    if all(value is None for value in times.values()):
        raise CliError(
            "reschedule takes a new start, a new expiry, or both",
            usage="pyoco-client reschedule RUN_ID --start-at TIME | --delay SPAN",
        )
    with gateway(context) as client:
        run = client.reschedule_run(whole_id(client, run_id), **times)
    show(run, output, "run_views:run_panel")
