"""`list` and `list-vnext`: runs by any filter, and their changes as they come."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypedDict

import typer

from pyoco_cli.client.app import CursorOption, show
from pyoco_cli.client.connection import gateway
from pyoco_cli.common.errors import CliError
from pyoco_cli.common.formats import OutputFormat, OutputOption, RowPrinter, chosen
from pyoco_cli.common.language import Phrase
from pyoco_cli.common.moments import moment_option
from pyoco_cli.common.option_groups import with_options
from pyoco_cli.common.output import make_console, on_terminal, print_json, print_line, print_table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from pyoco_server.client import PyocoHttpClient
    from pyoco_server.client.answers import RunsQueryDict

_Run: TypeAlias = Mapping[str, Any]
_Changes: TypeAlias = tuple[list[_Run], list[_Run]]

Status: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Only runs of that status or state, or those with commas in between."),
]
FlowName: TypeAlias = Annotated[str | None, typer.Option(help="Only runs of that flow.")]
Tag: TypeAlias = Annotated[str | None, typer.Option(help="Only runs of that tag.")]
Full: TypeAlias = Annotated[bool, typer.Option("--full", help="Whole snapshots.")]
Limit: TypeAlias = Annotated[
    int | None, typer.Option(help="How many, 1 to 200.", show_default="50")
]
Sha256: TypeAlias = Annotated[str | None, typer.Option(help="Only runs of that flow.yaml, in hex.")]
UpdatedAfter: TypeAlias = Annotated[
    float | None,
    moment_option(
        "--updated-after",
        "--since",
        help="Only runs that changed after it: 1d, yesterday, 22:00, ISO, unix.",
    ),
]

# The moments that a list is between, as they are given.
_BETWEEN = (
    ("updated_after", "--since", "updated_before", "--until"),
    ("submitted_after", "--submitted-after", "submitted_before", "--submitted-before"),
    ("scheduled_after", "--scheduled-after", "scheduled_before", "--scheduled-before"),
)
_SHOWN = 50
_MOST = 200
_OTHER_LINES = 3
_ROUNDS = 5
# By which the clocks of machines that write runs may differ.
_SKEW_SECONDS = 5.0
# Of a table in a pipe; 0.5.1 had them.
_PLAIN_COLUMNS = ("run_id", "status", "flow_name", "tag", "updated_at")
_CSV_COLUMNS = (
    *("run_id", "status", "flow_name", "tag", "worker_id", "updated_at", "submitted_at"),
    *("start_time", "end_time", "attempt", "error"),
)


class FilterOptions(TypedDict, total=False):
    """Which runs; named as the gateway has it."""

    status: Status
    flow: FlowName
    tag: Tag
    worker_id: Annotated[str | None, typer.Option(help="Only runs of that worker.")]
    q: Annotated[
        str | None,
        typer.Option("--text", help="Only runs with it in their id, flow name or error."),
    ]
    workflow_yaml_sha256: Sha256
    updated_after: UpdatedAfter
    updated_before: Annotated[
        float | None,
        moment_option("--updated-before", "--until", help="Only runs that changed before it."),
    ]
    submitted_after: Annotated[float | None, moment_option(help="Only runs submitted after it.")]
    submitted_before: Annotated[float | None, moment_option(help="Only runs submitted before it.")]
    late: Annotated[bool | None, typer.Option("--late", help="Only runs that are, or were, late.")]
    schedule_id: Annotated[str | None, typer.Option(help="Only runs of that schedule.")]
    scheduled_after: Annotated[float | None, moment_option(help="Only of ticks after it.")]
    scheduled_before: Annotated[float | None, moment_option(help="Only of ticks before it.")]


def _check_between(query: Mapping[str, Any]) -> None:
    for after, begin, before, end in _BETWEEN:
        first, last = query.get(after), query.get(before)
        if first is not None and last is not None and first > last:
            raise CliError(
                f"{begin} is later than {end}: no run is in between", hint=Phrase.SWAP_ENDS
            )


@with_options(query=FilterOptions)
def list_runs(
    context: typer.Context,
    *,
    query: FilterOptions,
    full: Full = False,
    limit: Limit = None,
    every: Annotated[bool, typer.Option("--all", help="All of them, however many.")] = False,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on with each change, until Ctrl-C.")
    ] = False,
    output: OutputOption = None,
) -> None:
    """List runs, the newest change first.

    With --follow a terminal shows the list as it is; elsewhere, runs come a line each: those that there
    are, the oldest change first, and then each one that changes.
    """
    if every and (follow or limit is not None):
        raise CliError("--all goes without --limit and --follow", hint="list -h")
    if full and follow:
        raise CliError(
            "--full goes without --follow, whose changes are told without params and task records",
            hint="all of one run: pyoco-client watch RUN_ID --records",
        )
    if limit is not None and limit > _MOST:
        raise CliError(
            f"--limit takes a whole number, 1 to {_MOST}, not {limit}",
            hint="list -h" if follow else Phrase.LIST_ALL,
        )
    _check_between(query)
    with gateway(context) as client:
        if follow:
            lists = _lists(client, query, limit or _SHOWN)
            if chosen(output) is OutputFormat.TABLE and on_terminal():
                _show_live(lists)
            else:
                _print_changes(lists, output)
            return
        if every:
            runs: Sequence[_Run] = every_run(client, query, full=full)
            total = None
        else:
            runs = client.find_runs(full=full, limit=limit, **query)["items"]
            total = _total(client, query, len(runs), limit)
    _print(runs, output)
    if total is not None:
        _say_more(len(runs), total)


def list_vnext(
    context: typer.Context,
    *,
    status: Status = None,
    flow: FlowName = None,
    tag: Tag = None,
    full: Full = False,
    limit: Limit = None,
    updated_after: UpdatedAfter = None,
    cursor: CursorOption = None,
    workflow_yaml_sha256: Sha256 = None,
    output: OutputOption = None,
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
    if chosen(output) is OutputFormat.JSON:
        print_json(page)
        return
    _print(page["items"], output)
    if page.get("next_cursor") and chosen(output) is OutputFormat.TABLE:
        print_line(f"next_cursor: {page['next_cursor']}")


def _print(runs: Sequence[_Run], output: OutputFormat | None) -> None:
    if output is OutputFormat.TABLE and not on_terminal():
        print_table(_PLAIN_COLUMNS, [_plain_cells(run) for run in runs])
    else:
        show(runs, output, "run_views:runs_table", columns=_CSV_COLUMNS)


def _plain_cells(run: _Run) -> list[str]:
    return [str(run.get(column, "-")) for column in _PLAIN_COLUMNS]


def every_run(client: PyocoHttpClient, query: RunsQueryDict, *, full: bool = False) -> list[_Run]:
    """All runs by a filter, however many pages they are, the newest change first."""
    runs: dict[str, _Run] = {}
    since = query.get("updated_after") or 0.0
    # A run that changes while pages are read may pass from those to come to those that were read.
    for _ in range(_ROUNDS):
        pages = list(_pages(client, {**query, "updated_after": since}, full=full))
        found: dict[str, _Run] = {}
        for run in chain.from_iterable(pages):
            found.setdefault(run["run_id"], run)
        missed = found.keys() - runs.keys()
        runs = found | {run_id: run for run_id, run in runs.items() if run_id not in found}
        if len(pages) == 1 or not missed:
            break
        since = max(float(run.get("updated_at") or 0.0) for run in found.values()) - _SKEW_SECONDS
    return list(runs.values())


def _pages(
    client: PyocoHttpClient, query: RunsQueryDict, *, full: bool
) -> Iterator[Sequence[_Run]]:
    cursor: str | None = None
    while True:
        page = client.find_runs(full=full, limit=_MOST, cursor=cursor, **query)
        yield page["items"]
        cursor = page.get("next_cursor")
        if cursor is None:
            return


def _total(
    client: PyocoHttpClient, query: RunsQueryDict, shown: int, limit: int | None
) -> str | None:
    """How many runs there are, where there are more than those that are shown and a person wants to know."""
    from pyoco_server.client import HttpProblem  # noqa: PLC0415 - httpx, see connection.py

    if shown < (limit or _SHOWN) or not (on_terminal() or limit is None):
        return None
    try:
        counts = client.count_runs(**query)
    except HttpProblem:
        return None  # 0.5.1 does not count
    total = int(counts.get("total") or 0)
    return f"{total}{'' if counts.get('exact', True) else ' or more'}" if total > shown else None


def _say_more(shown: int, total: str) -> None:
    line = f"{shown} of {total}, --limit or --all"
    if on_terminal():
        print_line(line)
    else:
        sys.stderr.write(f"{line}\n")


def _lists(client: PyocoHttpClient, query: RunsQueryDict, limit: int) -> Iterator[_Changes]:
    """The list, the newest change first, and what is new in it; again with each change."""
    runs: dict[str, _Run] = {}
    for event in client.follow_runs(**query):
        new: list[_Run] = []
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


def _print_changes(lists: Iterator[_Changes], output: OutputFormat | None) -> None:
    printer = RowPrinter(_CSV_COLUMNS, as_csv=output is OutputFormat.CSV)
    printer.begin()
    for _, new in lists:
        for run in new:
            if chosen(output) is OutputFormat.TABLE:
                print_line("  ".join(_plain_cells(run)))
            else:
                printer.print(run)


def _show_live(lists: Iterator[_Changes]) -> None:
    from rich.live import Live  # noqa: PLC0415 - rich, which JSON needs not

    from pyoco_cli.client.top_view import run_table  # noqa: PLC0415

    console = make_console()
    runs: list[_Run] = []

    def draw_runs() -> RenderableType:
        return run_table(runs[: max(console.height - _OTHER_LINES, 1)], console.width)

    # Drawn more often than runs change, because it tells how long ago they did.
    with Live(get_renderable=draw_runs, console=console, refresh_per_second=2) as live:
        for latest, _ in lists:
            runs = latest
            live.refresh()
