"""What views are made of: tables for screens of any width, facts and styled texts.

Texts come from users and workers, so each of them goes through ``printable``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.json import JSON
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pyoco_cli.common.output import on_terminal, printable

STYLES = {
    "PENDING": "dim",
    "SCHEDULED": "dim",
    "RUNNING": "cyan",
    "COMPLETED": "green",
    "SUCCEEDED": "green",
    "FAILED": "red",
    "EXPIRED": "red",
    "CANCELLING": "yellow",
    "CANCELLED": "yellow",
    "SKIPPED": "dim",
    "IDLE": "green",
    "STOPPED_GRACEFUL": "dim",
    "DISCONNECTED": "red",
}

Columns: TypeAlias = Mapping[str, Sequence[RenderableType]]
"""The cells of each column by its head, in the order of the columns."""

_GAP = 2
_LEAST_REST = 12
# What gives way where a line is short: the rest can be copied.
_SHORTENED = frozenset({"flow", "tag", "tags", "error", "task", "sha256", "by"})


def text(value: object, longest: int = 2000) -> Text:
    """A value, cut where it is too long; a dash where there is none."""
    whole = printable("-" if value is None else value)
    return Text(whole if len(whole) <= longest else f"{whole[: longest - 1]}…")


def first_line(value: object) -> Text:
    """The first line of a text."""
    return Text(text(value).plain.partition("\n")[0])


def line(value: object) -> Text:
    """The first line of a text, cut where there is no room."""
    return Text(first_line(value).plain, no_wrap=True, overflow="ellipsis")


def styled(state: object) -> Text:
    """A state in its colour."""
    return Text(printable(state), STYLES.get(str(state), ""))


def done(what: str, name: object, *more: Text | str | tuple[str, str]) -> Text:
    """What was done to something just now."""
    return Text.assemble((f"{what} ", "dim"), text(name), *more)


def facts(*named: tuple[str, object], longest: int = 2000) -> Table:
    """Names and values, a line each; what is none or empty is left out."""
    grid = Table.grid(padding=(0, 2))
    for name, value in named:
        if value not in (None, ""):
            grid.add_row(Text(name, "dim"), text(value, longest))
    return grid


def panel(title: Text, known: Mapping[str, Any], told: Table, *more: RenderableType) -> Panel:
    """A thing with its facts, its params where it has any, and what else there is of it."""
    params: list[RenderableType] = []
    if known.get("params"):
        params = [Text("params", "dim"), JSON.from_data(known["params"], ensure_ascii=False)]
    return Panel(Group(told, *params, *more), title=title, title_align="left", expand=on_terminal())


def table(columns: Columns, nothing: str = "", *, no_wrap: bool = False) -> RenderableType:
    """A table whose cells are whole, or a word in its place where it has no row."""
    drawn = _plain_table()
    for head in columns:
        drawn.add_column(Text(head), overflow="fold", no_wrap=no_wrap)
    return _filled(drawn, columns, nothing)


def listing(columns: Columns, nothing: str) -> RenderableType:
    """A table with one line a row, whose `line` cells are cut where there is no room."""
    drawn = _plain_table()
    for head in columns:
        drawn.add_column(
            Text(head, no_wrap=True, overflow="ellipsis"),
            no_wrap=head not in _SHORTENED,
            overflow="ellipsis",
        )
    return _filled(drawn, columns, nothing)


def with_cursor(drawn: RenderableType, page: Mapping[str, Any]) -> RenderableType:
    """A page, and where the next one starts."""
    cursor = page.get("next_cursor")
    return Group(drawn, Text(f"next_cursor: {printable(cursor)}", "dim")) if cursor else drawn


def _plain_table() -> Table:
    return Table(box=None, pad_edge=False, header_style="bold")


def _filled(drawn: Table, columns: Columns, nothing: str) -> RenderableType:
    for row in zip(*columns.values(), strict=True):
        drawn.add_row(*row)
    return Text(f"({nothing})", "dim") if nothing and not drawn.row_count else drawn


class Fitted:
    """A table that leaves out what there is no room for, rather than to cut what people copy.

    A ``flow`` goes on in the next line where it is too long.

    Args:
        columns: The cells of each column by its head, in the order of the columns.
        spare: Those that are there if there is room for them, in this order.
        rest: The one that takes the room that is left, cut where it is too long, and is absent where that is
            next to none.
    """

    def __init__(
        self,
        columns: Mapping[str, Sequence[Text]],
        *,
        spare: Sequence[str] = (),
        rest: str = "error",
    ) -> None:
        self._columns = columns
        self._spare = spare
        self._rest = rest

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = {
            head: max(len(head), *(cell.cell_len for cell in cells))
            for head, cells in self._columns.items()
        }
        shown = set(widths) - {*self._spare, self._rest}
        room = options.max_width - sum(widths[head] + _GAP for head in shown) + _GAP
        for head in self._spare:
            if widths[head] + _GAP <= room:
                shown.add(head)
                room -= widths[head] + _GAP
        rest = room - _GAP
        if rest >= min(widths[self._rest], _LEAST_REST):
            shown.add(self._rest)
        drawn = _plain_table()
        columns = {head: cells for head, cells in self._columns.items() if head in shown}
        for head in columns:
            may_be_cut, may_be_folded = head == self._rest, head == "flow"
            drawn.add_column(
                head,
                no_wrap=not may_be_folded,
                overflow="fold" if may_be_folded else "ellipsis",
                min_width=None if may_be_cut or may_be_folded else widths[head],
                # Of columns that are too wide together, rich would shorten all.
                max_width=rest if may_be_cut else None,
            )
        yield _filled(drawn, columns, "")
