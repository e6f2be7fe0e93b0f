"""The catalogue of error ids, the bases of the errors that the model raises, and a word of Python's own."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

NO_THREAD: Final = "can't start new thread"
"""What the RuntimeError says that CPython raises where there is none left (Modules/_threadmodule.c)."""


class ErrorId(StrEnum):
    """What can go wrong, under the id that logs, HTTP answers and commands share.

    A member is its ``err_id``, e.g. ``"ERR-PYOCO-0005"``. The ids are public: they are never
    renumbered and never reused.
    """

    text: str
    """What happened, in a few words."""

    def __new__(cls, err_id: str, text: str) -> ErrorId:
        """Make a member of its id and its text."""
        member = str.__new__(cls, err_id)
        member._value_ = err_id
        member.text = text
        return member

    GATEWAY_UNREACHABLE = "ERR-PYOCO-0001", "gateway not reachable"
    INVALID_INPUT = "ERR-PYOCO-0002", "invalid input"
    NATS_UNAVAILABLE = "ERR-PYOCO-0003", "nats unavailable"
    ORPHAN_RUN = "ERR-PYOCO-0004", "orphan run may remain"
    RUN_NOT_FOUND = "ERR-PYOCO-0005", "run not found"
    FLOW_NOT_FOUND = "ERR-PYOCO-0006", "flow not found"
    EXECUTION_FAILED = "ERR-PYOCO-0007", "execution failed"
    TERMINAL_STATE_NOT_RECORDED = "ERR-PYOCO-0008", "terminal state not recorded"
    IN_PROGRESS_ACK_FAILED = "ERR-PYOCO-0009", "in_progress ack failed"
    SNAPSHOT_TOO_LARGE = "ERR-PYOCO-0010", "snapshot too large"
    DEAD_LETTER_NOT_PUBLISHED = "ERR-PYOCO-0011", "dead letter not published"
    INVALID_JOB = "ERR-PYOCO-0012", "invalid job"
    LOGGING_SETUP_FAILED = "ERR-PYOCO-0013", "logging set-up failed"
    API_KEY_MISSING = "ERR-PYOCO-0014", "api key required"
    API_KEY_INVALID = "ERR-PYOCO-0015", "invalid api key"
    WORKFLOW_TOO_LARGE = "ERR-PYOCO-0016", "workflow too large"
    INVALID_LIST_QUERY = "ERR-PYOCO-0017", "invalid list query"
    INVALID_COMMAND_LINE = "ERR-PYOCO-0018", "invalid command-line input"
    INVALID_WORKERS_REQUEST = "ERR-PYOCO-0019", "invalid workers request"
    WORKER_NOT_FOUND = "ERR-PYOCO-0020", "worker not found"
    CANCEL_NOT_CONVERGED = "ERR-PYOCO-0021", "cancel did not converge within the grace period"
    WHEEL_VERSION_CONFLICT = "ERR-PYOCO-0022", "wheel version conflict"
    WHEEL_NOT_FOUND = "ERR-PYOCO-0023", "wheel not found"
    WHEEL_SYNC_FAILED = "ERR-PYOCO-0024", "wheel sync failed"
    NOT_ALLOWED = "ERR-PYOCO-0025", "not allowed"
    TOO_MANY_REQUESTS = "ERR-PYOCO-0026", "too many requests"
    DEAD_LETTER_NOT_FOUND = "ERR-PYOCO-0027", "dead letter not found"
    NOT_REPEATABLE = "ERR-PYOCO-0028", "run cannot be submitted again"
    NOT_MOVABLE = "ERR-PYOCO-0029", "run cannot be moved"
    SCHEDULE_NOT_FOUND = "ERR-PYOCO-0030", "schedule not found"
    SCHEDULE_CONFLICT = "ERR-PYOCO-0031", "schedule exists or changed"

    @property
    def msg_id(self) -> str:
        """The message id of the same number, e.g. ``"MSG-PYOCO-0005"``."""
        return self.value.replace("ERR", "MSG", 1)


class ModelError(ValueError):
    """Data that breaks a rule of the model; the text says what, where and what would be right."""

    error_id = ErrorId.INVALID_INPUT
    """The id under which a caller logs and answers it."""


class InvalidField(ModelError):
    """A field that cannot be what somebody says.

    Args:
        field: Its name.
        reason: What is wrong and what would be right.
    """

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        self.reason = reason
        super().__init__(f"{field}: {reason}")


class FlowFileError(ModelError):
    """A flow.yaml that cannot be taken.

    Args:
        reason: What is wrong and what would be right.
        path: Where in the document, e.g. ``tasks.add_one.callable``; empty for the whole.
        line: The line, counted from 1, where it is known.
        column: The column, counted from 1, where it is known.
        nearest: The name that was most likely meant.
        others: What else is wrong and does not come of this, in the order of the lines.
    """

    def __init__(
        self,
        reason: str,
        *,
        path: str = "",
        line: int | None = None,
        column: int | None = None,
        nearest: str | None = None,
        others: tuple[FlowFileError, ...] = (),
    ) -> None:
        self.nearest = nearest
        self.others = others
        self.reason = reason
        self.path = path
        self.line = line
        self.column = column
        super().__init__(reason)

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        meant = f"; did you mean {self.nearest!r}?" if self.nearest else ""
        place = "" if self.line is None else f" (line {self.line}, column {self.column or 1})"
        return f"{where}{self.reason}{meant}{place}"
