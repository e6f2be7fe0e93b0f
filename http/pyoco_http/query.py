"""What a query holds, checked: a value that cannot be used is refused with what would be right."""

from __future__ import annotations

import math
from collections.abc import Callable

from quart import request

from pyoco_http.problems import Problem
from pyoco_server.model.errors import ErrorId

_FLAGS: dict[str, bool] = dict.fromkeys(("1", "true", "yes", "on"), True)
_FLAGS |= dict.fromkeys(("0", "false", "no", "off", ""), False)

Refuse = Callable[[str, str], Problem]


def refuse(name: str, takes: str) -> Problem:
    """Return the answer to a value that cannot be used."""
    return Problem(422, f"invalid {name}", ErrorId.INVALID_INPUT, field=name, reason=takes)


def whole(name: str, least: int, most: int | None = None, *, refuse: Refuse = refuse) -> int | None:
    """Read a whole number; None where the query has none.

    Raises:
        Problem: It is no such number, or out of its range.
    """
    text = request.args.get(name)
    if text is None:
        return None
    limit = f" to {most}" if most is not None else " or more"
    if text.isascii() and text.isdigit() and len(text) <= 18:
        number = int(text)
        if least <= number and (most is None or number <= most):
            return number
    raise refuse(name, f"takes a whole number, {least}{limit}")


def number(
    name: str, least: float = -math.inf, most: float = math.inf, *, refuse: Refuse = refuse
) -> float | None:
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


def flag(name: str, *, refuse: Refuse = refuse) -> bool:
    """Read a flag; absent is no.

    Raises:
        Problem: It is neither yes nor no.
    """
    found = _FLAGS.get(request.args.get(name, "").lower())
    if found is None:
        raise refuse(name, "takes true or false")
    return found


def word(name: str, *words: str) -> str | None:
    """Read one of the words; None where the query has none.

    Raises:
        Problem: It is another.
    """
    text = request.args.get(name)
    if text is None or text in words:
        return text
    raise refuse(name, f"takes {' or '.join(words)}")
