"""How the text of a variable becomes a value: the kinds of settings there are."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

_FLAGS: Final = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}
LEVELS: Final = {
    **{level: level for level in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")},
    "WARN": "WARNING",
    "FATAL": "CRITICAL",
}


@dataclass(frozen=True, slots=True)
class Reader:
    """How the text of a variable becomes its value."""

    takes: str
    """What is right, for the error and the documentation."""
    read: Callable[[str], object]
    """Raises ``ValueError`` for what is not."""
    secret: bool = False
    """Whether its text is never shown."""


def pattern(expression: str, takes: str) -> Reader:
    """Takes a text that the whole expression matches."""

    def read(text: str) -> str:
        if re.fullmatch(expression, text) is None:
            raise ValueError(text)
        return text

    return Reader(takes, read)


def seconds(*, zero: str | None = None) -> Reader:
    """Takes a duration; 0 only where it has a meaning."""

    def read(text: str) -> float:
        number = float(text)
        if not math.isfinite(number) or number < 0 or (number == 0 and zero is None):
            raise ValueError(text)
        return number

    return Reader(f"seconds, 0 for {zero}" if zero else "seconds, more than 0", read)


def count(least: int, *, unlimited: int | None = None) -> Reader:
    """Takes a whole number from ``least`` on, or the one that stands for no limit."""

    def read(text: str) -> int:
        number = int(text)
        if number < least and number != unlimited:
            raise ValueError(text)
        return number

    limit = "" if unlimited is None else f", or {unlimited} for no limit"
    return Reader(f"a whole number, {least} or more{limit}", read)


def choice(values: Mapping[str, object], takes: str, *, upper: bool = False) -> Reader:
    """Takes one of the words, in any case."""

    def read(text: str) -> object:
        return values[text.upper() if upper else text.lower()]

    return Reader(takes, read)


def language(text: str) -> str:
    """Read a language: ja, en or auto."""
    # 0.5.1 takes a locale such as ja_JP, and these words for "auto".
    short = text.lower()[:2]
    if short in {"ja", "en"}:
        return short
    if text.lower() in {"auto", "server", "system", "default"}:
        return "auto"
    raise ValueError(text)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


_NAME: Final = r"[A-Za-z0-9_-]+"
BUCKET: Final = pattern(_NAME, "a bucket name of A-Z a-z 0-9 _ -")
STREAM: Final = pattern(_NAME, "a stream name of A-Z a-z 0-9 _ -")
SUBJECT: Final = pattern(rf"{_NAME}(\.{_NAME})*", "a subject of tokens with dots in between")
FLAG: Final = choice(_FLAGS, "1, true, yes, on or 0, false, no, off")
TEXT: Final = pattern(r".*\S.*", "a text")
URL: Final = pattern(
    r"((nats|tls|ws|wss)://)?[^\s,/]+/?(,((nats|tls|ws|wss)://)?[^\s,/]+/?)*",
    "nats://host:port, or several with commas in between",
)
_LABEL: Final = r"[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?"
_HOST: Final = rf"({_LABEL}(\.{_LABEL})*|\[[0-9a-fA-F:.]+\])"
HOSTS: Final = pattern(
    rf"{_HOST}(\s*,\s*{_HOST})*", "names of hosts, without ports, with commas in between"
)
SECRET: Final = Reader("a text", str, secret=True)
POSITIVE: Final = seconds()
