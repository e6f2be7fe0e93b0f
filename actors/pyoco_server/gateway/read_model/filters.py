"""What a list of runs can be narrowed by, the same for stored rows (SQL) and for passing ones (Python).

And where its next page goes on: a cursor is opaque to clients, and good for the list that it came from only.
"""

from __future__ import annotations

import base64
import hashlib
import math
import string
from collections.abc import Iterator
from typing import Final

import msgspec

from pyoco_server.gateway.read_model.rows import RunRow
from pyoco_server.model.run import RunState, RunStatus

_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)

Condition = tuple[str, str | float]
"""A piece of SQL with one place for a value, and the value."""

Place = tuple[float, str]
"""``updated_at`` and run id of the last run of a page; lists are ordered by both, the highest first."""


class RunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs; None leaves a property open. Times are unix seconds.

    ``text`` is found anywhere in the run's id, flow name or error; ASCII letters match in both cases.
    """

    tenant: str | None = None
    """"" for runs without a tenant, None for those of all."""
    statuses: tuple[RunStatus | RunState, ...] = ()
    """Any of these; all when empty. A status has the runs of the states that are stored as it."""
    late: bool = False
    """Only those that are, or were, late."""
    flow: str | None = None
    tag: str | None = None
    worker_id: str | None = None
    sha256: str | None = None
    schedule_id: str | None = None
    text: str | None = None
    updated_after: float | None = None
    updated_before: float | None = None
    submitted_after: float | None = None
    submitted_before: float | None = None
    scheduled_after: float | None = None
    scheduled_before: float | None = None

    @property
    def counted(self) -> bool:
        """Whether the kept counts answer it: it asks for nothing but tenant, status, flow and tag."""
        return self == RunFilter(
            tenant=self.tenant, statuses=self.statuses, flow=self.flow, tag=self.tag
        )

    def concerns(self, row: RunRow) -> bool:
        """Whether the run is of those that the filter could ever match: by what never changes of it."""
        return (
            (self.tenant is None or row.tenant == self.tenant)
            and (self.flow is None or row.flow == self.flow)
            and (self.tag is None or row.tag == self.tag)
            and (self.sha256 is None or row.sha256 == self.sha256)
            and (self.schedule_id is None or row.schedule_id == self.schedule_id)
            and _within(row.scheduled_at, self.scheduled_after, self.scheduled_before)
        )

    def matches(self, row: RunRow, now: float = 0.0) -> bool:
        """Whether the run is one of them now."""
        return (
            self.concerns(row)
            and (not self.statuses or self._has_state(row, now))
            and (not self.late or row.late > 0)
            and (self.worker_id is None or row.worker_id == self.worker_id)
            and _within(row.updated_at, self.updated_after, self.updated_before)
            and _within(row.submitted_at, self.submitted_after, self.submitted_before)
            and (self.text is None or _found(self.text, row))
        )

    def _has_state(self, row: RunRow, now: float) -> bool:
        # Equal as texts are the members of both enumerations that have one name.
        return row.status in self.statuses or row.state(now) in self.statuses

    @property
    def states(self) -> tuple[RunState, ...]:
        """The statuses without those that others of them hold."""
        states = [RunState(status) for status in self.statuses]
        return tuple(
            state
            for state in states
            if state.value == state.status.value or RunState(state.status.value) not in states
        )

    def conditions(self) -> Iterator[Condition]:
        """The conditions on a row of ``runs`` but those on tenant, status and text."""
        for sql, value in (
            ("flow = ?", self.flow),
            ("tag = ?", self.tag),
            ("worker_id = ?", self.worker_id),
            ("sha256 = ?", self.sha256),
            ("schedule_id = ?", self.schedule_id),
            ("updated_at > ?", self.updated_after),
            ("updated_at < ?", self.updated_before),
            ("submitted_at > ?", self.submitted_after),
            ("submitted_at < ?", self.submitted_before),
            ("scheduled_at > ?", self.scheduled_after),
            ("scheduled_at < ?", self.scheduled_before),
        ):
            if value is not None:
                yield sql, value

    def text_conditions(self) -> tuple[str, tuple[str, ...]]:
        """The condition that the text is in a row of ``runs``, which reads the row itself."""
        if self.text is None:
            return "1", ()
        needle = lowered(self.text)
        columns = ("run_id", "flow", "error")
        sql = " OR ".join(f"instr(lower({column}), ?) > 0" for column in columns)
        return f"({sql})", (needle,) * len(columns)


def lowered(text: str) -> str:
    """The text with its ASCII letters in lower case, as SQLite's ``lower`` has it."""
    return text.translate(_LOWER)


def _within(value: float | None, after: float | None, before: float | None) -> bool:
    if value is None:
        return after is None and before is None
    return (after is None or value > after) and (before is None or value < before)


def _found(text: str, row: RunRow) -> bool:
    needle = lowered(text)
    return any(needle in lowered(part or "") for part in (row.run_id, row.flow, row.error))


class InvalidListCursor(ValueError):
    """It is no cursor, or one of another list: of other filters or of another tenant."""


class _Cursor(msgspec.Struct):
    u: float
    r: str
    f: str


def encode_cursor(place: Place, run_filter: RunFilter) -> str:
    """Make the cursor of the page that begins behind ``place``."""
    raw = msgspec.json.encode(_Cursor(place[0], place[1], _digest(run_filter)))
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def decode_cursor(cursor: str, run_filter: RunFilter) -> Place:
    """Read a cursor that `encode_cursor` made.

    Raises:
        InvalidCursor: It is none, or was made for another filter.
    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        read = msgspec.json.decode(raw, type=_Cursor)
    except (ValueError, msgspec.MsgspecError, RecursionError):
        raise InvalidListCursor("it is no next_cursor of a list") from None
    if read.f != _digest(run_filter):
        raise InvalidListCursor("it belongs to a list with other filters")
    if not math.isfinite(read.u):
        raise InvalidListCursor("it is no next_cursor of a list")
    return read.u, read.r


def _digest(run_filter: RunFilter) -> str:
    # Binds, but does not protect: what a forged cursor shows is filtered all the same.
    return hashlib.blake2s(msgspec.json.encode(run_filter), digest_size=8).hexdigest()
