"""`top`: runs, workers, queues and actors on a full screen, as they change."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyoco_cli.client.app import show
from pyoco_cli.client.connection import GatewayAddress, gateway
from pyoco_cli.common.formats import OutputFormat, OutputOption, chosen
from pyoco_cli.common.numbers import seconds_option
from pyoco_cli.common.output import make_console, on_terminal

if TYPE_CHECKING:
    from pyoco_server.client import PyocoHttpClient

_HIDDEN = (403, 404)
_KEY_REFUSED = (401, 403)
# Each is a request of its own.
_MOST_LOOKED_INTO = 5
_MOST_TASKS = 2


def top(
    context: typer.Context,
    *,
    interval_sec: Annotated[
        float, seconds_option(least=0.2, help="Seconds between two looks at the gateway.")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, and print it.")] = False,
    output: OutputOption = None,
) -> None:
    """Show runs, workers, queues and actors until Ctrl-C.

    Where standard output is no terminal, or with --output json: one look.
    """
    connection: GatewayAddress = context.obj
    with gateway(context) as client:
        seen = look(client)
        if chosen(output) is not OutputFormat.TABLE:
            show(seen, output)
            return
        from pyoco_cli.client.top_view import screen  # noqa: PLC0415 - rich, which JSON needs not

        console = make_console()
        if once or not on_terminal():
            console.print(screen(seen, connection.server, console.width, console.height, None))
            return
        _follow(client, seen, connection.server, interval_sec)


def look(client: PyocoHttpClient) -> dict[str, Any]:
    """One look at everything; ``actors`` is null where the key may not see them."""
    from pyoco_server.client import HttpProblem  # noqa: PLC0415 - httpx, which --help needs not

    try:
        actors = client.get_actors().get("tree")
    except HttpProblem as problem:
        if problem.status not in _HIDDEN:
            raise
        actors = None
    queues = client.get_queues()
    runs = client.list_runs(limit=100)
    return {
        "at": time.time(),
        "counts": client.count_runs(),
        "runs": runs,
        "progress": _progress(client, runs),
        "workers": client.get_workers(scope="all"),
        "queues": queues.get("queues"),
        "dead_letters": queues.get("dead_letters"),
        "actors": actors,
    }


def _progress(client: PyocoHttpClient, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the latest runs that are executed tell of how far their tasks are, by run and task."""
    from pyoco_server.client import HttpProblem  # noqa: PLC0415 - httpx, which --help needs not

    running = [str(run.get("run_id")) for run in runs if run.get("status") == "RUNNING"]
    told: dict[str, Any] = {}
    for run_id in running[:_MOST_LOOKED_INTO]:
        try:
            records = client.get_tasks(run_id).get("task_records") or {}
        except HttpProblem:
            continue  # it is gone meanwhile
        made = {
            name: record["progress"]
            for name, record in records.items()
            if "progress" in record and record["state"] == "RUNNING"
        }
        if made:
            told[run_id] = dict(list(made.items())[:_MOST_TASKS])
    return told


def _follow(
    client: PyocoHttpClient, seen: dict[str, Any], server: str, interval_sec: float
) -> None:
    import httpx  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415

    from pyoco_cli.client.top_view import screen  # noqa: PLC0415
    from pyoco_server.client import HttpProblem, UnexpectedAnswer  # noqa: PLC0415

    console = make_console()
    trouble: str | None = None
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            drawn = screen(seen, server, console.width, console.height, trouble)
            live.update(drawn, refresh=True)
            time.sleep(interval_sec)
            try:
                seen, trouble = look(client), None
            except (httpx.HTTPError, UnexpectedAnswer) as error:
                if isinstance(error, HttpProblem) and error.status in _KEY_REFUSED:
                    raise
                # What was seen stays on the screen until the gateway is back.
                trouble = str(error) or type(error).__name__
