"""`watch`: the states of a run as they come."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any

import typer

from pyoco_cli.client.app import RunId
from pyoco_cli.client.connection import gateway
from pyoco_cli.client.follow import print_status_lines, show_live
from pyoco_cli.common.output import on_terminal, print_json

_DEFAULT_SECONDS = 60
"""What the gateway takes when ``timeout_sec`` is absent."""


class WatchOutput(StrEnum):
    """How events are printed."""

    JSON = "json"
    STATUS = "status"


def watch(
    context: typer.Context,
    run_id: RunId,
    *,
    records: Annotated[bool, typer.Option("--records", help="With task records.")] = False,
    since: Annotated[
        float | None, typer.Option(help="Only snapshots not older than that, in unix seconds.")
    ] = None,
    timeout_sec: Annotated[
        int, typer.Option(min=0, help="Seconds at most; 0 for no limit.")
    ] = _DEFAULT_SECONDS,
    max_events: Annotated[int, typer.Option(help="Events at most; 0 for no limit.")] = 0,
    until_terminal: Annotated[
        bool, typer.Option("--until-terminal", help="Stop when the run has ended.")
    ] = False,
    output: Annotated[
        WatchOutput | None,
        typer.Option(help="json: an event a line; status: ts, event, status, run_id with tabs."),
    ] = None,
) -> None:
    """Watch a run; a connection that breaks is opened again."""
    with gateway(context) as client:
        events = client.watch(
            run_id,
            include_records=records,
            since=since,
            within_seconds=timeout_sec or None,
            until_terminal=until_terminal,
        )
        if max_events > 0:
            events = _first(events, max_events)
        match output:
            case WatchOutput.STATUS:
                print_status_lines(events)
            case None if on_terminal():
                show_live(events)
            case _:
                for event in events:
                    print_json(event)


def _first(events: Iterator[dict[str, Any]], count: int) -> Iterator[dict[str, Any]]:
    """Give the first events and ask for no more, which might be long in coming."""
    for number, event in enumerate(events, 1):
        yield event
        if number >= count:
            return
