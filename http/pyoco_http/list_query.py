"""The query of a list, checked: each refusal names the parameter and what it takes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

from quart import request

from pyoco_http import query
from pyoco_http.access import principal
from pyoco_http.problems import Problem
from pyoco_server.gateway.read_model.filters import RunFilter
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.run import RunStatus

E = TypeVar("E", bound=StrEnum)

_LONGEST_TEXT: Final = 200


@dataclass(frozen=True, slots=True)
class Query:
    """The query of the request in hand; a parameter that cannot be used raises a `Problem`.

    Attributes:
        detail: The contract's text for a query that cannot be used.
        error_id: Its id.
    """

    detail: str
    error_id: ErrorId

    def refused(self, name: str, takes: str) -> Problem:
        """The answer to a parameter that cannot be used."""
        return self._refusal(name, f"takes {takes}")

    def _refusal(self, name: str, reason: str) -> Problem:
        return Problem(422, self.detail, self.error_id, field=name, reason=f"{name} {reason}")

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
        """A finite number; None where it is absent."""
        return query.number(name, refuse=self._refusal)

    def whole(self, name: str, least: int, most: int, default: int) -> int:
        """A whole number."""
        found = query.whole(name, least, most, refuse=self._refusal)
        return default if found is None else found

    def flag(self, name: str) -> bool:
        """A flag; absent is no."""
        return query.flag(name, refuse=self._refusal)

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
