"""`get` and `tasks`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pyoco_cli.client.app import OutputOption, RunId, show
from pyoco_cli.client.connection import gateway
from pyoco_cli.client.run_ids import whole_id
from pyoco_cli.common.formats import OutputFormat, chosen


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
