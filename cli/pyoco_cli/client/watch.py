"""`watch` and `wait`: the states of a run as they come, and its end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from itertools import islice
from typing import Annotated, Any

import typer

from pyoco_cli.client.app import OutputOption, RunId, show
from pyoco_cli.client.connection import gateway
from pyoco_cli.client.outcome import ENDED, Followed, exit_code, leaving, wait_for_end
from pyoco_cli.client.run_ids import whole_id
from pyoco_cli.common.formats import RowPrinter
from pyoco_cli.common.moments import moment_option
from pyoco_cli.common.numbers import seconds_option
from pyoco_cli.common.output import on_terminal, print_json, print_line


class WatchOutput(StrEnum):
    """How events are printed."""

    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    STATUS = "status"
    TABLE = "table"


def watch(
    context: typer.Context,
    run_id: RunId,
    *,
    records: Annotated[bool, typer.Option("--records", help="With task records.")] = False,
    since: Annotated[
        float | None,
        moment_option(help="Only its end, and snapshots not older than that: 1h, ISO, unix."),
    ] = None,
    timeout_sec: Annotated[
        int, typer.Option(min=0, help="Seconds to watch, also beyond its end; 0 for no limit.")
    ] = 0,
    max_events: Annotated[int, typer.Option(help="Events at most; 0 for no limit.")] = 0,
    until_terminal: Annotated[
        bool, typer.Option("--until-terminal", help="Stop when the run has ended.")
    ] = False,
    output: Annotated[
        WatchOutput | None,
        typer.Option(
            help="json, jsonl: an event a line; status: ts, event, status, run_id with tabs; "
            "csv: the same; table: as it is now, the default on a terminal."
        ),
    ] = None,
) -> int:
    """Watch a run until its end; a connection that breaks is opened again.

    Exits with 0 when it COMPLETED, 1 FAILED, 2 CANCELLED, 124 when time was up before its end.
    """
    seconds = timeout_sec or None
    with gateway(context) as client:
        run_id = whole_id(client, run_id)
        watched = client.watch(
            run_id,
            include_records=records,
            since=since,
            within_seconds=seconds,
            # Of a run that has ended nothing comes any more: who sets no limit means its end.
            until_terminal=until_terminal or seconds is None,
        )
        # Not one more is asked for, which might be long in coming.
        events = Followed(islice(watched, max_events) if max_events > 0 else watched)
        with leaving(run_id):
            match output:
                case WatchOutput.STATUS | WatchOutput.CSV:
                    print_status(events, as_csv=output is WatchOutput.CSV)
                case None | WatchOutput.TABLE if on_terminal() or output is not None:
                    # Here, because rich would cost those that print lines a noticeable time.
                    from pyoco_cli.client.follow import show_live  # noqa: PLC0415

                    show_live(events)
                case _:
                    for event in events:
                        print_json(event)
    if 0 < max_events <= events.count and events.snapshot.get("status") not in ENDED:
        return 0
    return exit_code(run_id, events.snapshot, seconds)


def wait(
    context: typer.Context,
    run_id: RunId,
    *,
    timeout_sec: Annotated[float, seconds_option(help="Seconds at most; 0 for no limit.")] = 0.0,
    output: OutputOption = None,
) -> int:
    """Wait for the end of a run, and show it.

    Exits with 0 when it COMPLETED, 1 FAILED, 2 CANCELLED, 124 when time was up before its end.
    """
    seconds = timeout_sec or None
    with gateway(context) as client:
        run_id = whole_id(client, run_id)
        with leaving(run_id):
            final = wait_for_end(client, run_id, seconds)
    if final.get("status") in ENDED:
        show(final, output, "run_views:run_panel")
    return exit_code(run_id, final, seconds)


def print_status(events: Iterable[dict[str, Any]], *, as_csv: bool) -> None:
    """Print ``ts, event, status, run_id`` of each event, as it comes: as CSV, or with tabs in between."""
    printer = RowPrinter(("ts", "event", "status", "run_id"), as_csv=True)
    for event in events:
        status = _status(event)
        if as_csv:
            printer.print(status)
        else:
            print_line("\t".join(str(value or "-") for value in status.values()))


def _status(event: Mapping[str, Any]) -> dict[str, Any]:
    data = event.get("data") or {}
    snapshot = data.get("snapshot") or {}
    return {
        "ts": data.get("ts") or snapshot.get("updated_at"),
        "event": event.get("event", "message"),
        "status": snapshot.get("status"),
        "run_id": data.get("run_id") or snapshot.get("run_id"),
    }
