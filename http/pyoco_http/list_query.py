"""The query of a list, checked: each refusal names the parameter and what it takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

from quart import request

from pyoco_http.access import principal
from pyoco_http.problems import Problem
from pyoco_server.gateway.read_model.filters import RunFilter
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.run import RunStatus

E = TypeVar("E", bound=StrEnum)

_FLAGS: Final = {"1": True, "true": True, "yes": True, "on": True}
_FLAGS_OFF: Final = {"0": False, "false": False, "no": False, "off": False, "": False}
_LONGEST_TEXT: Final = 200


@dataclass(frozen=True, slots=True)
class Query:
    """The query of the request in hand.

    Attributes:
        detail: The contract's text for a query that cannot be used.
        error_id: Its id.
    """

    detail: str
    error_id: ErrorId

    def refused(self, name: str, takes: str) -> Problem:
        """The answer to a parameter that cannot be used."""
        return Problem(422, self.detail, self.error_id, field=name, reason=f"{name} takes {takes}")

    def text(self, name: str) -> str | None:
        """A text; None where it is absent or empty.

        Raises:
            Problem: It holds a character that no name has.
        """
        text = request.args.get(name)
        if text is not None and not text.isprintable():
            raise self.refused(name, "printable characters")
        return text or None

    def number(self, name: str) -> float | None:
        """A finite number; None where it is absent.

        Raises:
            Problem: It is none.
        """
        text = request.args.get(name)
        if text is None:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.refused(name, "a number")
        return value

    def whole(self, name: str, least: int, most: int, default: int) -> int:
        """A whole number.

        Raises:
            Problem: It is none, or out of its range.
        """
        text = request.args.get(name)
        if text is None:
            return default
        if text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most:
            return int(text)
        raise self.refused(name, f"a whole number from {least} to {most}")

    def flag(self, name: str) -> bool:
        """A flag; absent is no.

        Raises:
            Problem: It is neither yes nor no.
        """
        text = request.args.get(name, "").lower()
        found = (_FLAGS | _FLAGS_OFF).get(text)
        if found is None:
            raise self.refused(name, "true or false")
        return found

    def members(self, name: str, kind: type[E]) -> tuple[E, ...]:
        """Members of an enumeration, in either case; the parameter may be repeated or hold commas.

        Raises:
            Problem: One is none of them.
        """
        words = [
            word.strip().upper() for part in request.args.getlist(name) for word in part.split(",")
        ]
        try:
            return tuple(dict.fromkeys(kind(word) for word in words if word))
        except ValueError:
            raise self.refused(name, " or ".join(kind)) from None


RUNS: Final = Query("invalid list query", ErrorId.INVALID_LIST_QUERY)


def run_filter() -> RunFilter:
    """The filter that the query of a list of runs asks for, among the runs that the caller may see.

    Raises:
        Problem: A parameter cannot be used.
    """
    text = RUNS.text("q")
    if text is not None and len(text) > _LONGEST_TEXT:
        raise RUNS.refused("q", f"at most {_LONGEST_TEXT} characters")
    return RunFilter(
        tenant=principal().tenant_id,
        statuses=RUNS.members("status", RunStatus),
        flow=RUNS.text("flow"),
        tag=RUNS.text("tag"),
        worker_id=RUNS.text("worker_id"),
        sha256=RUNS.text("workflow_yaml_sha256"),
        text=text,
        updated_after=RUNS.number("updated_after"),
        updated_before=RUNS.number("updated_before"),
        submitted_after=RUNS.number("submitted_after"),
        submitted_before=RUNS.number("submitted_before"),
    )
