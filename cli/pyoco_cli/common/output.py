"""Printing: JSON lines and plain tables for programs, rich renderings for people."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.console import Console


_WIDE: Final = 160


def on_terminal() -> bool:
    """Whether a person looks at standard output."""
    return sys.stdout.isatty()


def print_line(line: str) -> None:
    """Print one line, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def print_text(text: str) -> None:
    """Print text without adding to it, at once; on a terminal, what would steer it becomes escapes."""
    if on_terminal():
        text = "\t".join(map(printable, text.split("\t")))
    sys.stdout.write(text)
    sys.stdout.flush()


def print_json(value: Any) -> None:
    """Print a JSON document as one line of ASCII, at once."""
    print_line(json.dumps(value, ensure_ascii=True))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns padded with spaces, two of them in between."""
    if not rows:
        print_line("(no items)")
        return
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    for row in (headers, *rows):
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write("  ".join(padded) + "\n")
    sys.stdout.flush()


def make_console() -> Console:
    """Return a rich console on standard output, which takes texts as they are.

    A file or a pipe has the width of ``COLUMNS``, or else that of a wide screen.
    """
    # Here, because rich would cost every command that prints JSON a noticeable time.
    from rich.console import Console  # noqa: PLC0415

    width = None if on_terminal() or "COLUMNS" in os.environ else _WIDE
    return Console(file=sys.stdout, width=width, markup=False, highlight=False, emoji=False)


def printable(value: object) -> str:
    """Return ``value`` as text that cannot steer a terminal: control characters become escapes."""
    text = str(value)
    return "".join(
        char
        if char == "\n" or unicodedata.category(char) not in {"Cc", "Cf"}
        else ascii(char)[1:-1]
        for char in text
    )
