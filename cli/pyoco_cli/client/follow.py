"""A run as it goes on, drawn for people: the states of its tasks, and above them what they print."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from pyoco_cli.client.drawing import styled
from pyoco_cli.client.logs import JoinedLines, PrintedLine
from pyoco_cli.client.merged import Came, Ended, merged
from pyoco_cli.client.run_views import not_kept, progress_cells
from pyoco_cli.common.output import make_console, printable

if TYPE_CHECKING:
    from pyoco_server.client import PyocoHttpClient

_STATES = "states"
_LOGS = "logs"
_LOGS_GRACE_SECONDS = 5.0
_SHOWN_EVENTS = ("log", "truncated", "progress")
_NOT_FOUND = 404


def show_live(events: Iterable[dict[str, Any]]) -> None:
    """Draw the latest snapshot of a run until its events end; the last one stays on the screen."""
    with _drawn() as drawn:
        for event in events:
            drawn.take(event)


def show_live_with_logs(client: PyocoHttpClient, run_id: str, within_seconds: float | None) -> None:
    """Draw a run until it ends, and above it what its tasks print, as they do."""
    streams = {
        _STATES: client.watch(run_id, within_seconds=within_seconds),
        _LOGS: client.events(
            run_id, types=_SHOWN_EVENTS, follow=True, within_seconds=within_seconds
        ),
    }
    with _drawn() as drawn:
        for came in merged(streams, last=_STATES, grace_seconds=_LOGS_GRACE_SECONDS):
            match came:
                case Came(source=source, item=event) if source == _STATES:
                    drawn.take(event)
                case Came(item=chunk):
                    drawn.take_event(chunk)
                case Ended(source=source, error=Exception() as error) if source == _STATES:
                    raise error
                case Ended(error=error):
                    drawn.logs_ended(error)


@contextmanager
def _drawn() -> Iterator[_Drawn]:
    console = make_console()
    drawn = _Drawn(console)
    with Live(get_renderable=drawn.draw, console=console, refresh_per_second=8) as live:
        drawn.live = live
        yield drawn
        drawn.flush()


class _Drawn:
    """A run on the screen, and the lines above it."""

    live: Live

    def __init__(self, console: Console) -> None:
        self._console = console
        self._snapshot: dict[str, Any] = {}
        self._lines = JoinedLines()
        # How far tasks are, as they say.
        self._progress: dict[str, Mapping[str, Any]] = {}

    def draw(self) -> RenderableType:
        return _run(self._snapshot, self._progress)

    def take(self, event: Mapping[str, Any]) -> None:
        self._snapshot = (event.get("data") or {}).get("snapshot") or self._snapshot
        self.live.refresh()

    def take_event(self, event: Mapping[str, Any]) -> None:
        if event.get("type") == "progress":
            self._progress[str(event.get("task"))] = event
        else:
            self._print(self._lines.take(event))

    def logs_ended(self, error: Exception | None) -> None:
        # A gateway of 0.5.1 has no logs (404); the states are what was asked for.
        if error is not None and getattr(error, "status", None) != _NOT_FOUND:
            said = f"the output of its tasks cannot be read: {error}"
            self._print([PrintedLine("run", None, said)])

    def flush(self) -> None:
        """Print lines that were never ended."""
        self._print(self._lines.rest())

    def _print(self, lines: Iterable[PrintedLine]) -> None:
        for line in lines:
            style = "red" if line.stream == "stderr" else ""
            self._console.print(
                Text.assemble((f"{printable(line.task)}  ", "dim"), (printable(line.text), style))
            )


def _run(snapshot: dict[str, Any], progress: Mapping[str, Mapping[str, Any]]) -> RenderableType:
    if not snapshot:
        return Spinner("dots", "waiting for the run")
    head = Text.assemble(
        styled(snapshot.get("status")),
        f"  {printable(snapshot.get('flow_name'))}  ",
        (printable(snapshot.get("run_id")), "dim"),
    )
    tasks = Table.grid(padding=(0, 2))
    for name, state in (snapshot.get("tasks") or {}).items():
        made = progress.get(name) if state == "RUNNING" else None
        tasks.add_row(
            f"  {printable(name)}",
            styled(state),
            *(progress_cells(made) if made else ()),
        )
    error = snapshot.get("error")
    tail = [Text(printable(error), "red")] if error else []
    return Group(head, tasks, *not_kept(snapshot), *tail)
