"""Errors as problem+json: what is wrong, where, and what would be right."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import structlog
from quart import Blueprint, Response
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, InternalServerError, MethodNotAllowed

from pyoco_http.call import Answer, Header
from pyoco_server.gateway.canceller import CancelNotStored
from pyoco_server.gateway.key_ring import KeysUnavailable, TooManyChecks
from pyoco_server.gateway.new_run import CannotWait, KeyReused, NotAccepted, RunTooLarge
from pyoco_server.gateway.read_model.model import NotReadable
from pyoco_server.gateway.read_model.queries import SearchTooWide
from pyoco_server.gateway.schedules.records import SchedulesUnavailable
from pyoco_server.gateway.waiting_runs import MoveNotStored, RunHasStarted
from pyoco_server.gateway.worker_registry import WorkerNotFound, WorkerNotSteerable
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.kernel import ActorDown, AskExpired
from pyoco_server.model.errors import NO_THREAD, ErrorId, InvalidField
from pyoco_server.model.idempotency import InvalidIdempotencyKey
from pyoco_server.model.job import InvalidTag
from pyoco_server.model.json_text import encode_json
from pyoco_server.model.names import nearest
from pyoco_server.model.run import UnreadableSnapshot
from pyoco_server.store.runs import RunNotFound

log = structlog.get_logger(__name__)

_SHORTAGES: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
)

_UNAVAILABLE = (
    NotAccepted,
    CancelNotStored,
    KeysUnavailable,
    MoveNotStored,
    NotReadable,
    SchedulesUnavailable,
    BridgeError,
    ActorDown,
    AskExpired,
)


class Problem(Exception):
    """An answer that is no success (RFC 9457, with the contract's ``detail``, ``err_id`` and ``msg_id``).

    Args:
        status: The HTTP status.
        detail: One short English sentence; clients match those of the contract.
        error_id: Its id.
        headers: Headers of its own; names in small letters.
        extra: Further fields of the answer, such as ``field`` or ``reason``.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        error_id: ErrorId | None,
        *,
        headers: tuple[Header, ...] = (),
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.error_id = error_id
        self.headers = headers
        self.extra = extra

    def fields(self) -> dict[str, Any]:
        """What the answer says, but its type."""
        fields: dict[str, Any] = {"status": self.status, "detail": self.detail}
        if self.error_id is not None:
            title, err_id, msg_id = self.error_id.text, self.error_id.value, self.error_id.msg_id
            fields |= {"title": title, "err_id": err_id, "msg_id": msg_id}
        return fields | self.extra

    def answer(self) -> Answer:
        """The whole answer."""
        body = encode_json({"type": "about:blank"} | self.fields())
        return Answer(body, self.status, "application/problem+json", self.headers)

    def response(self) -> Response:
        """The same for Quart."""
        return self.answer().response()


Maker = Callable[[Any], Problem]
Problems = Mapping[type[Exception], Maker]


def invalid(field: str, reason: str, detail: str | None = None) -> Problem:
    """The refusal of a value that cannot be used."""
    return Problem(
        422, detail or f"invalid {field}", ErrorId.INVALID_INPUT, field=field, reason=reason
    )


def because(status: int, detail: str, error_id: ErrorId) -> Maker:
    """How an error is answered whose text is the reason."""
    return lambda error: Problem(status, detail, error_id, reason=str(error))


def too_many(reason: str, seconds: int = 1) -> Problem:
    """The refusal of what would be too much, with when to try again."""
    headers = retry_after(seconds)
    return Problem(
        429, "too many requests", ErrorId.TOO_MANY_REQUESTS, headers=headers, reason=reason
    )


def retry_after(seconds: int) -> tuple[Header, ...]:
    """The header that says when to try again."""
    return ((b"retry-after", str(seconds).encode()),)


def unknown_name(
    what: str,
    name: str,
    known: Iterable[str],
    refusal: str | None = None,
    error_id: ErrorId = ErrorId.INVALID_INPUT,
) -> Problem:
    """The refusal of what would have been ignored, with the name that was most likely meant.

    Args:
        what: ``field`` or ``parameter``.
        name: The unknown one.
        known: Those that there are.
        refusal: The detail of the answer, where it is not to name it.
        error_id: Its id.
    """
    names, name = sorted(known), name[:80]
    near = nearest(name, names)
    meant = f"there are {', '.join(names)}" if names else "none is taken here"
    meant = f"did you mean {near!r}?" if near else meant
    reason = f"no {what} is called {name!r}; {meant}"
    return Problem(422, refusal or f"unknown {what} {name!r}", error_id, field=name, reason=reason)


def _unreadable(error: Any) -> Problem:
    log.error("unreadable snapshot", err_id=error.error_id, reason=str(error))
    return Problem(503, f"stored data unreadable: {error}", error.error_id)


def _unavailable(error: Exception) -> Problem:
    log.warning("nats unavailable", err_id=ErrorId.NATS_UNAVAILABLE, reason=str(error))
    # The run that may show up although it was refused is named, for the client to look after.
    orphan = error.run_id if isinstance(error, NotAccepted) else None
    what = "run not accepted" if isinstance(error, NotAccepted) else type(error).__name__
    return Problem(
        503,
        f"nats unavailable: {what}",
        ErrorId.NATS_UNAVAILABLE if orphan is None else ErrorId.ORPHAN_RUN,
        headers=retry_after(1),
        reason=str(error),
        **({} if orphan is None else {"run_id": orphan}),
    )


def _machine(error: Any) -> Problem:
    """A machine that lacks room, a descriptor or a thread for the moment; all else is a fault of ours."""
    if isinstance(error, OSError):
        short, reason = error.errno in _SHORTAGES, error.strerror or str(error)
    else:
        short, reason = str(error) == NO_THREAD, str(error)
    if not short:
        return _unforeseen(error)
    log.error("the machine has no room", reason=str(error))
    return Problem(503, "gateway has no room", None, headers=retry_after(5), reason=reason)


def _unforeseen(error: Exception) -> Problem:
    log.error("unexpected error", exc_info=error)
    return _http(InternalServerError())


def _http(error: Any) -> Problem:
    """What Quart itself refuses, such as a path or a method that no route has."""
    status = error.code or 500
    headers: tuple[Header, ...] = ()
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        headers = ((b"allow", ", ".join(sorted(error.valid_methods)).encode()),)
    return Problem(
        status,
        (error.name or "error").lower(),
        ErrorId.INVALID_INPUT if status < 500 else None,
        headers=headers,
        reason=error.description,
    )


PROBLEMS: Final[Problems] = {
    Problem: lambda problem: problem,
    RunNotFound: lambda error: Problem(
        404, "run not found", ErrorId.RUN_NOT_FOUND, run_id=error.run_id
    ),
    WorkerNotFound: lambda error: Problem(
        404, "worker not found", ErrorId.WORKER_NOT_FOUND, worker_id=error.worker_id
    ),
    WorkerNotSteerable: because(409, "worker takes no orders", ErrorId.INVALID_WORKERS_REQUEST),
    SearchTooWide: lambda error: Problem(
        422,
        "invalid list query",
        ErrorId.INVALID_LIST_QUERY,
        reason=f"{error}: narrow the list by status, flow, tag or time",
    ),
    RunTooLarge: lambda error: Problem(413, str(error), ErrorId.SNAPSHOT_TOO_LARGE),
    KeyReused: because(422, "idempotency key reused", ErrorId.INVALID_INPUT),
    CannotWait: lambda error: invalid("start_at", str(error)),
    RunHasStarted: lambda error: Problem(
        409, "run cannot be moved", ErrorId.NOT_MOVABLE, state=error.state, reason=str(error)
    ),
    TooManyChecks: lambda error: too_many(str(error)),
    InvalidField: lambda error: invalid(error.field, error.reason),
    InvalidTag: lambda error: invalid("tag", str(error)),
    InvalidIdempotencyKey: lambda error: invalid(
        "Idempotency-Key", str(error), "invalid idempotency key"
    ),
    UnreadableSnapshot: _unreadable,
    HTTPException: _http,
    OSError: _machine,
    RuntimeError: _machine,
    **dict.fromkeys(_UNAVAILABLE, _unavailable),
}
"""How the refusals and errors of every route are answered."""


def problem_of(error: Exception) -> Problem:
    """The answer to an error, however it came up; one that nobody foresaw is logged, and a 500."""
    for kind in type(error).__mro__:
        if kind in PROBLEMS:
            return PROBLEMS[kind](error)
    return _unforeseen(error)


def answer_with(of: QuartTrio | Blueprint, problems: Problems) -> None:
    """Have these errors of an application's or a blueprint's routes answered with a problem."""
    for kind, problem in problems.items():

        async def answer(error: Exception, problem: Maker = problem) -> Response:
            return problem(error).response()

        of.register_error_handler(kind, answer)
