"""`list`: runs by any filter, and their changes as they come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyoco_cli.client.app import draw
from pyoco_cli.client.connection import gateway
from pyoco_cli.client.runs import (
    COLUMNS,
    FlowName,
    Full,
    Limit,
    ListOutput,
    ListOutputOption,
    Sha256,
    Status,
    Tag,
    UpdatedAfter,
    columns_of,
)
from pyoco_cli.common.output import make_console, on_terminal, print_json, print_line, print_table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from pyoco_server.client import PyocoHttpClient
    from pyoco_server.client.requests import RunQuery

_SHOWN = 50
_OTHER_LINES = 3


def list_runs(
    context: typer.Context,
    *,
    status: Status = None,
    flow: FlowName = None,
    tag: Tag = None,
    worker_id: Annotated[str | None, typer.Option(help="Only runs of that worker.")] = None,
    text: Annotated[
        str | None, typer.Option(help="Only runs with it in their id, flow name or error.")
    ] = None,
    workflow_yaml_sha256: Sha256 = None,
    updated_after: UpdatedAfter = None,
    updated_before: Annotated[
        float | None, typer.Option(help="Only runs that changed before it, in unix seconds.")
    ] = None,
    submitted_after: Annotated[
        float | None, typer.Option(help="Only runs submitted after it, in unix seconds.")
    ] = None,
    submitted_before: Annotated[
        float | None, typer.Option(help="Only runs submitted before it, in unix seconds.")
    ] = None,
    full: Full = False,
    limit: Limit = None,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on with each change, until Ctrl-C.")
    ] = False,
    output: ListOutputOption = None,
) -> None:
    """List runs, the newest change first.

    With --follow a terminal shows the list as it is; elsewhere, runs come a line each: those that there
    are, the oldest change first, and then each one that changes.
    """
    query: RunQuery = {
        "status": status,
        "flow": flow,
        "tag": tag,
        "worker_id": worker_id,
        "q": text,
        "workflow_yaml_sha256": workflow_yaml_sha256,
        "updated_after": updated_after,
        "updated_before": updated_before,
        "submitted_after": submitted_after,
        "submitted_before": submitted_before,
    }
    with gateway(context) as client:
        if follow:
            lists = _lists(client, query, limit or _SHOWN)
            if on_terminal() and output is not ListOutput.JSON:
                _show_live(lists)
            else:
                _print_changes(lists, as_json=output is not ListOutput.TABLE)
            return
        runs = client.find_runs(full=full, limit=limit, **query)["items"]
    match output:
        case ListOutput.TABLE if not on_terminal():
            print_table(COLUMNS, [columns_of(run) for run in runs])
        case None | ListOutput.TABLE if on_terminal():
            draw("runs_table", runs)
        case _:
            print_json(runs)


def _lists(
    client: PyocoHttpClient, query: RunQuery, limit: int
) -> Iterator[tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """The list, the newest change first, and what is new in it; again with each change."""
    runs: dict[str, dict[str, Any]] = {}
    for event in client.follow_runs(**query):
        new: list[dict[str, Any]] = []
        match event:
            case {"event": "hello" | "reset"}:
                page = client.find_runs(limit=limit, **query)["items"]
                new = [run for run in reversed(page) if runs.get(run["run_id"]) != run]
                runs = {run["run_id"]: run for run in page}
            case {"event": "run", "data": {"run": run}}:
                # What was listed already may come once more as a change.
                if runs.get(run["run_id"]) == run:
                    continue
                new = [run]
                runs[run["run_id"]] = run
            case {"event": "gone", "data": {"run_id": run_id}}:
                runs.pop(run_id, None)
            case _:
                continue
        latest = sorted(runs.values(), key=lambda run: -float(run.get("updated_at") or 0.0))
        runs = {run["run_id"]: run for run in latest[:limit]}
        yield latest[:limit], new


def _print_changes(
    lists: Iterator[tuple[list[dict[str, Any]], list[dict[str, Any]]]], *, as_json: bool
) -> None:
    for _, new in lists:
        for run in new:
            if as_json:
                print_json(run)
            else:
                print_line("  ".join(columns_of(run)))


def _show_live(lists: Iterator[tuple[list[dict[str, Any]], list[dict[str, Any]]]]) -> None:
    from rich.live import Live  # noqa: PLC0415 - rich, which JSON needs not

    from pyoco_cli.client.top_view import run_table  # noqa: PLC0415

    console = make_console()
    runs: list[dict[str, Any]] = []

    def draw_runs() -> RenderableType:
        return run_table(runs[: max(console.height - _OTHER_LINES, 1)], console.width)

    # Drawn more often than runs change, because it tells how long ago they did.
    with Live(get_renderable=draw_runs, console=console, refresh_per_second=2) as live:
        for latest, _ in lists:
            runs = latest
            live.refresh()
