"""`--output`: how a command prints its result, for programs and for people."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final, TypeAlias

import typer

from pyoco_cli.common.output import on_terminal, print_json, print_line


class OutputFormat(StrEnum):
    """How a command prints its result."""

    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    TABLE = "table"
    TEXT = "text"
    """The same as ``table``."""


OUTPUT_HELP: Final = (
    "json: a document a line; jsonl, csv: a line an item; table, text: for people, "
    "the default on a terminal."
)
OutputOption: TypeAlias = Annotated[OutputFormat | None, typer.Option("--output", help=OUTPUT_HELP)]


def chosen(output: OutputFormat | None) -> OutputFormat:
    """The format that the user asked for, or else what suits where it goes; never ``TEXT``."""
    if output is None:
        return OutputFormat.TABLE if on_terminal() else OutputFormat.JSON
    return OutputFormat.TABLE if output is OutputFormat.TEXT else output


class RowPrinter:
    """Prints items as they come, a line each: JSON documents, or CSV with a head.

    Args:
        columns: Those of CSV.
        as_csv: Whether it is CSV.
    """

    def __init__(self, columns: Sequence[str], *, as_csv: bool) -> None:
        self._columns = columns
        self._as_csv = as_csv
        self._begun = False

    def begin(self) -> None:
        """Print the head, if there is one and it was not printed yet."""
        if self._as_csv and self._columns and not self._begun:
            self._print(self._columns)
            self._begun = True

    def print(self, item: Mapping[str, Any]) -> None:
        """Print an item."""
        if not self._as_csv:
            print_json(item)
            return
        self.begin()
        self._print([_cell(item.get(column)) for column in self._columns])

    def _print(self, cells: Iterable[str]) -> None:
        line = io.StringIO()
        # With its own end of a line, or it would not quote a cell that has one.
        csv.writer(line, lineterminator="\n").writerow(cells)
        print_line(line.getvalue().removesuffix("\n"))


def print_rows(
    items: Iterable[Mapping[str, Any]], output: OutputFormat, columns: Sequence[str] = ()
) -> None:
    """Print items as ``jsonl`` or ``csv``.

    CSV has the given columns, then whatever else any of the items has.
    """
    if output is OutputFormat.CSV:
        items = list(items)
        columns = list(dict.fromkeys([*columns, *(name for item in items for name in item)]))
    printer = RowPrinter(columns, as_csv=output is OutputFormat.CSV)
    printer.begin()
    for item in items:
        printer.print(item)


def items_of(value: Any) -> list[Mapping[str, Any]]:
    """The items of a JSON document: those of a list or a page, or else the document alone."""
    match value:
        case list():
            found = value
        case {"items": list() as found}:
            pass
        case _:
            found = [value]
    return [item if isinstance(item, Mapping) else {"value": item} for item in found]


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case _:
            return json.dumps(value, ensure_ascii=False)
