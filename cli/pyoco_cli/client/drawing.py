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
_LEAST_FOLDED = 12
_FOLDED = frozenset({"flow"})
# As much of an id as every command takes.
_ID = 8
_IDS = frozenset({"run"})


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


def listing(columns: Mapping[str, Sequence[Text]], nothing: str) -> RenderableType:
    """A table with one line a row, of as many of its columns as there is room for; the last may be cut."""
    _, *spare, rest = columns
    return Fitted(columns, spare=spare, rest=rest, nothing=nothing)


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

    Where what is always there has no room, ids are their beginnings, then what matters least is left out, and
    then the widest column is cut. A ``flow`` that is too long goes on in the next line, unless that would be
    letter by letter.

    Args:
        columns: The cells of each column by its head, in the order of the columns.
        last: Those that are left out where even the beginnings of ids leave no room, the last one first.
        spare: Those that are there if there is room for them, in this order.
        rest: The one that takes the room that is left, cut where it is too long, and is absent where that is
            next to none.
        nothing: A word in place of a table without rows.
    """

    def __init__(
        self,
        columns: Mapping[str, Sequence[Text]],
        *,
        last: Sequence[str] = (),
        spare: Sequence[str] = (),
        rest: str = "error",
        nothing: str = "",
    ) -> None:
        self._columns = columns
        self._last = last
        self._spare = spare
        self._rest = rest
        self._nothing = nothing

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = self._widths(options.max_width)
        drawn = _plain_table()
        shown: dict[str, Sequence[Text]] = {}
        for head, cells in self._columns.items():
            if head not in widths:
                continue
            shown[head] = cells
            if head in _IDS:
                shown[head] = [
                    cell if cell.cell_len <= widths[head] else cell[:_ID] for cell in cells
                ]
            folded = head in _FOLDED and widths[head] >= _LEAST_FOLDED
            drawn.add_column(
                Text(head, no_wrap=True, overflow="ellipsis"),
                no_wrap=not folded,
                overflow="fold" if folded else "ellipsis",
                # Of columns that are too wide together, rich would shorten all.
                width=widths[head],
            )
        yield _filled(drawn, shown, self._nothing)

    def _widths(self, room: int) -> Mapping[str, int]:
        """How wide the columns are that are shown."""
        whole = {
            head: max(len(head), *(cell.cell_len for cell in cells), 0)
            for head, cells in self._columns.items()
        }
        shown = {
            head: min(width, _LEAST_FOLDED) if head in _FOLDED else width
            for head, width in whole.items()
            if head not in {*self._spare, self._rest}
        }

        def left() -> int:
            return room + _GAP - sum(width + _GAP for width in shown.values())

        if left() < 0:
            shown |= {head: min(shown[head], _ID) for head in _IDS & shown.keys()}
        for head in reversed(self._last):
            if left() < 0:
                del shown[head]
        for head in _FOLDED & shown.keys():
            shown[head] = min(whole[head], shown[head] + max(left(), 0))
        for head in self._spare:
            if whole[head] + _GAP <= left():
                shown[head] = whole[head]
        rest = left() - _GAP
        if self._rest in whole and rest >= min(whole[self._rest], _LEAST_REST):
            shown[self._rest] = min(whole[self._rest], rest)
        widest = max(shown, key=lambda head: shown[head])
        shown[widest] = max(shown[widest] + min(left(), 0), 1)
        return shown
