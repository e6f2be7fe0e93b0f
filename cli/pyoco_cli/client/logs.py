"""`logs` and `events`: what a run printed and what happened in it, also as it comes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias

import typer

from pyoco_cli.client.app import OutputFormat, OutputOption, RunId
from pyoco_cli.client.connection import gateway
from pyoco_cli.client.outcome import leaving
from pyoco_cli.client.run_ids import whole_id
from pyoco_cli.client.words import moment, progress_text
from pyoco_cli.common.errors import CliError
from pyoco_cli.common.formats import RowPrinter, chosen
from pyoco_cli.common.moments import moment_option
from pyoco_cli.common.output import on_terminal, print_line, print_text, printable
from pyoco_server.model.counted import counted

if TYPE_CHECKING:
    from pyoco_server.client import PyocoHttpClient
    from pyoco_server.client.answers import EventDict

Follow: TypeAlias = Annotated[
    bool, typer.Option("-f", "--follow", help="Go on with what comes, until the run has ended.")
]


class Stream(StrEnum):
    """Where something was printed to."""

    STDOUT = "stdout"
    STDERR = "stderr"


class EventType(StrEnum):
    """What an event tells of."""

    STATE = "state"
    TASK = "task"
    LOG = "log"
    PROGRESS = "progress"
    FLOW = "flow"
    TRUNCATED = "truncated"
    LATE = "late"


def logs(
    context: typer.Context,
    run_id: RunId,
    *,
    follow: Follow = False,
    task: Annotated[str | None, typer.Option(help="Only what this task printed.")] = None,
    stream: Annotated[Stream | None, typer.Option(help="Only what was printed there.")] = None,
    tail: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Only so many lines of what is there.")
    ] = None,
    attempt: Annotated[
        int | None, typer.Option(min=0, help="Only what this attempt printed.")
    ] = None,
    since: Annotated[
        float | None,
        moment_option(help="Only what was printed after it: 1h, yesterday, ISO, unix."),
    ] = None,
    output: OutputOption = None,
) -> None:
    """Print what the tasks of a run printed: on a terminal line by line, with the task in front."""
    with gateway(context) as client:
        run_id = whole_id(client, run_id)
        if task is not None:
            _check_task(client, run_id, task)
        chunks = client.logs(
            run_id,
            task=task,
            stream=stream,
            attempt=attempt,
            since=since,
            tail=tail,
            follow=follow,
        )
        with leaving(run_id) if follow else nullcontext():
            if chosen(output) is not OutputFormat.TABLE:
                _print_documents(chunks, output, _LOG_COLUMNS)
            elif on_terminal():
                _print_lines(chunks)
            else:
                for chunk in chunks:
                    print_text(_text_of(chunk))


def events(
    context: typer.Context,
    run_id: RunId,
    *,
    follow: Follow = False,
    kinds: Annotated[
        list[EventType] | None, typer.Option("--type", help="Only events of this type; repeatable.")
    ] = None,
    output: OutputOption = None,
) -> None:
    """Print what happened in a run: its states, its tasks, and what they printed."""
    with gateway(context) as client:
        run_id = whole_id(client, run_id)
        told = client.events(run_id, types=tuple(kinds or ()), follow=follow)
        with leaving(run_id) if follow else nullcontext():
            if chosen(output) is not OutputFormat.TABLE:
                _print_documents(told, output, _EVENT_COLUMNS)
            else:
                for event in told if follow else _states_in_order(told):
                    for line in lines_of(event):
                        print_line(line)


def _check_task(client: PyocoHttpClient, run_id: str, task: str) -> None:
    """Refuse a task that the run does not have, and that printed nothing in an earlier attempt either.

    Raises:
        CliError: It is so; the error names the tasks that there are.
    """
    # None are known before a worker has begun, nor of runs that were too large to tell of them.
    known = client.get_tasks(run_id).get("tasks")
    if known and task not in known and not any(client.logs(run_id, task=task, tail=1)):
        names = printable(", ".join(known))
        raise CliError(f"run {run_id} has no task {task!r}", hint=f"its tasks are: {names}")


_LOG_COLUMNS = ("id", "at", "attempt", "task", "stream", "text")
_EVENT_COLUMNS = (
    *("id", "at", "attempt", "type", "status", "worker_id", "reason", "task", "state"),
    *("duration_ms", "error", "stream", "text", "done", "total", "message"),
)


def _print_documents(
    documents: Iterable[Mapping[str, Any]], output: OutputFormat | None, columns: Sequence[str]
) -> None:
    """Print them as they come; a JSON document of these has always been a line."""
    printer = RowPrinter(columns, as_csv=output is OutputFormat.CSV)
    printer.begin()
    for document in documents:
        printer.print(document)


class PrintedLine(NamedTuple):
    """A line that was printed in a run.

    Attributes:
        task: By which task; "run" where it is not known.
        stream: Where to; ``None`` for what we say in between.
        text: The line, without its end.
    """

    task: str
    stream: str | None
    text: str


class JoinedLines:
    """What tasks print, line by line: a chunk may end within a line, and another task's come then."""

    def __init__(self) -> None:
        # What was printed of lines that have not ended yet.
        self._begun: dict[tuple[object, str, str], str] = {}

    def take(self, chunk: Mapping[str, Any]) -> list[PrintedLine]:
        """Return the lines that a chunk ends."""
        task, stream = str(chunk.get("task") or "run"), str(chunk.get("stream"))
        if chunk.get("type") == "truncated":
            return [PrintedLine(task, None, left_out(chunk))]
        key = (chunk.get("attempt"), task, stream)
        *lines, begun = (self._begun.pop(key, "") + str(chunk.get("text", ""))).split("\n")
        if begun:
            self._begun[key] = begun
        return [PrintedLine(task, stream, line) for line in lines]

    def rest(self) -> list[PrintedLine]:
        """Return the lines that nothing ended."""
        begun, self._begun = self._begun, {}
        return [PrintedLine(task, stream, text) for (_, task, stream), text in begun.items()]


def _print_lines(chunks: Iterable[Mapping[str, Any]]) -> None:
    joined = JoinedLines()
    try:
        for chunk in chunks:
            _print_with_task(joined.take(chunk))
    finally:
        # Also where Ctrl-C, or the gateway, ends it.
        _print_with_task(joined.rest())


def _print_with_task(lines: Sequence[PrintedLine]) -> None:
    print_text("".join(f"{line.task}  {line.text}\n" for line in lines))


def _text_of(chunk: Mapping[str, Any]) -> str:
    if chunk.get("type") == "truncated":
        return f"\n[{left_out(chunk)}]\n"
    return str(chunk.get("text", ""))


def _states_in_order(events: Iterable[EventDict]) -> list[EventDict]:
    """Gateways and workers each tell what they did; which state was first is told by its revision."""
    told = list(events)
    places = [place for place, event in enumerate(told) if event["type"] == "state"]
    states = [event for event in told if event["type"] == "state"]
    in_order = sorted(states, key=lambda state: state.get("revision", 0))
    for place, state in zip(places, in_order, strict=True):
        told[place] = state
    return told


def lines_of(event: Mapping[str, Any]) -> list[str]:
    """Say what happened, a line each; of printed text and of a traceback, each of its lines."""
    head = moment(event.get("at"))
    match event.get("type"):
        case "state":
            parts = [event.get("status"), event.get("worker_id"), event.get("reason")]
            return [_line(head, "run", *parts, event.get("error"))]
        case "task":
            took = event.get("duration_ms")
            shown = None if took is None else f"{took / 1000:.2f} s"
            name = f"task {event.get('task')}"
            number = event.get("try_number")
            tried = None if number is None else f"try {number}"
            traceback = str(event.get("traceback") or "").splitlines()
            return [
                _line(head, name, event.get("state"), tried, shown, event.get("error")),
                *(f"  {printable(line)}" for line in traceback),
            ]
        case "log":
            name = f"task {event.get('task')}" if event.get("task") else "run"
            stream = event.get("stream")
            return [
                _line(head, name, f"{stream}:", line) for line in str(event["text"]).splitlines()
            ]
        case kind:
            return [_line(head, *_said(kind, event))]


def _said(kind: object, event: Mapping[str, Any]) -> tuple[object, ...]:
    """What an event of one line tells of, and what it says."""
    match kind:
        case "progress":
            return f"task {event.get('task')}", progress_text(event)
        case "truncated":
            return "run", left_out(event)
        case "late":
            due = moment(event.get("expected_at"))
            return "run", f"late: its {event.get('what')} was expected by {due}"
        case "flow":
            count = len((event.get("structure") or {}).get("nodes") or [])
            return "run", f"flow of {counted(count, 'task')}"
        case _:
            return (kind,)


def _line(*parts: object) -> str:
    return "  ".join(printable(part).replace("\n", " ") for part in parts if part is not None)


def left_out(event: Mapping[str, Any]) -> str:
    """Say that output is missing, and how much."""
    size, limit = event.get("left_out_bytes"), event.get("limit_bytes")
    if size is None:
        return f"output is left out from here on: at most {limit} bytes are kept"
    return f"{size} bytes of output were left out: at most {limit} are kept"
