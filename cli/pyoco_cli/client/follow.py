"""Following a run: live task states for people, status lines for programs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pyoco_cli.common.output import make_console, print_line, printable

if TYPE_CHECKING:
    from rich.console import RenderableType


def status_line(event: dict[str, Any]) -> str:
    """Return ``ts, event, status, run_id``, with tabs in between."""
    data = event.get("data") or {}
    snapshot = data.get("snapshot") or {}
    return "\t".join(
        (
            str(data.get("ts") or snapshot.get("updated_at") or "-"),
            str(event.get("event", "message")),
            str(snapshot.get("status") or "-"),
            str(data.get("run_id") or snapshot.get("run_id") or "-"),
        )
    )


def print_status_lines(events: Iterable[dict[str, Any]]) -> None:
    """Print a line for each event, as it comes."""
    for event in events:
        print_line(status_line(event))


def show_live(events: Iterable[dict[str, Any]]) -> None:
    """Draw the latest snapshot of a run until its events end; the last one stays on the screen."""
    # Here, because rich would cost commands that print lines a noticeable time.
    from rich.live import Live  # noqa: PLC0415

    snapshot: dict[str, Any] = {}

    def draw() -> RenderableType:
        return _run(snapshot)

    with Live(get_renderable=draw, console=make_console(), refresh_per_second=8) as live:
        for event in events:
            snapshot = (event.get("data") or {}).get("snapshot") or snapshot
            live.refresh()


def _run(snapshot: dict[str, Any]) -> RenderableType:
    from rich.console import Group  # noqa: PLC0415
    from rich.spinner import Spinner  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from pyoco_cli.client.views import STYLES  # noqa: PLC0415

    if not snapshot:
        return Spinner("dots", "waiting for the run")
    status = str(snapshot.get("status"))
    head = Text.assemble(
        (printable(status), STYLES.get(status, "")),
        f"  {printable(snapshot.get('flow_name'))}  ",
        (printable(snapshot.get("run_id")), "dim"),
    )
    tasks = Table.grid(padding=(0, 2))
    for name, state in (snapshot.get("tasks") or {}).items():
        tasks.add_row(f"  {printable(name)}", Text(printable(state), STYLES.get(str(state), "")))
    error = snapshot.get("error")
    tail = [Text(printable(error), "red")] if error else []
    return Group(head, tasks, *tail)
