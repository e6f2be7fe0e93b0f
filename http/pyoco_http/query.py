"""What a query holds, checked: a value that cannot be used is refused with what would be right."""

from __future__ import annotations

import math

from quart import request

from pyoco_http.problems import Problem
from pyoco_server.model.errors import ErrorId

_FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": True}


def refuse(name: str, takes: str) -> Problem:
    """Return the answer to a value that cannot be used."""
    return Problem(422, f"invalid {name}", ErrorId.INVALID_INPUT, field=name, reason=takes)


def whole(name: str, least: int, most: int | None = None) -> int | None:
    """Read a whole number; None where the query has none.

    Raises:
        Problem: It is no such number, or out of its range.
    """
    text = request.args.get(name)
    if text is None:
        return None
    limit = f" to {most}" if most is not None else " or more"
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise refuse(name, f"takes a whole number, {least}{limit}")
    number = int(text)
    if number < least or (most is not None and number > most):
        raise refuse(name, f"takes a whole number, {least}{limit}")
    return number


def number(name: str, least: float = -math.inf, most: float = math.inf) -> float | None:
    """Read a number; None where the query has none.

    Raises:
        Problem: It is none, not finite, or out of its range.
    """
    text = request.args.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or not least <= value <= most:
        limit = f" from {least:g} to {most:g}" if math.isfinite(most) else ""
        raise refuse(name, f"takes a number{limit}")
    return value


def flag(name: str) -> bool:
    """Read a flag; absent is no.

    Raises:
        Problem: It is neither yes nor no.
    """
    text = request.args.get(name)
    if text is None:
        return False
    try:
        return _FLAGS[text.lower()]
    except KeyError:
        raise refuse(name, "takes 1 or 0") from None


def word(name: str, *words: str) -> str | None:
    """Read one of the words; None where the query has none.

    Raises:
        Problem: It is another.
    """
    text = request.args.get(name)
    if text is None or text in words:
        return text
    raise refuse(name, f"takes {' or '.join(words)}")
