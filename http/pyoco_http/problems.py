"""Errors as problem+json: what is wrong, where, and what would be right."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import structlog
from quart import Response
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from pyoco_server.gateway.canceller import CancelNotStored
from pyoco_server.gateway.dead_letter_desk import LettersUnavailable
from pyoco_server.gateway.key_ring import KeysUnavailable, TooManyChecks
from pyoco_server.gateway.monitor import NotSeen
from pyoco_server.gateway.read_model.model import NotReadable
from pyoco_server.gateway.reader import SearchTooWide
from pyoco_server.gateway.submitter import KeyReused, NotAccepted, RunTooLarge
from pyoco_server.gateway.wheel_registry import WheelsUnavailable
from pyoco_server.gateway.worker_registry import (
    WorkerNotChanged,
    WorkerNotFound,
    WorkerNotSteerable,
)
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.kernel import ActorDown, AskExpired
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.run import UnreadableSnapshot
from pyoco_server.store.runs import RunNotFound

log = structlog.get_logger(__name__)

_UNAVAILABLE = (
    NotAccepted,
    CancelNotStored,
    KeysUnavailable,
    LettersUnavailable,
    WheelsUnavailable,
    NotReadable,
    NotSeen,
    WorkerNotChanged,
    BridgeError,
    ActorDown,
    AskExpired,
)


class Problem(Exception):
    """An answer that is no success.

    Args:
        status: The HTTP status.
        detail: One short English sentence; clients match those of the contract.
        error_id: Its id.
        extra: Further fields of the answer, such as ``field`` or ``reason``.
    """

    def __init__(self, status: int, detail: str, error_id: ErrorId, **extra: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.error_id = error_id
        self.extra = extra


def problem_response(
    status: int,
    detail: str,
    error_id: ErrorId | None,
    extra: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Build the answer (RFC 9457, with the contract's ``detail``, ``err_id`` and ``msg_id``)."""
    body: dict[str, Any] = {"type": "about:blank", "status": status, "detail": detail}
    if error_id is not None:
        body |= {"title": error_id.text, "err_id": error_id.value, "msg_id": error_id.msg_id}
    return Response(
        json.dumps(body | dict(extra or {}), default=str),
        status=status,
        headers=dict(headers or {}),
        content_type="application/problem+json",
    )


def register_problems(app: QuartTrio) -> None:
    """Answer every refusal and error of the app with a problem."""

    async def on_problem(error: Problem) -> Response:
        return problem_response(error.status, error.detail, error.error_id, error.extra)

    async def on_not_found(error: RunNotFound) -> Response:
        return problem_response(
            404, "run not found", ErrorId.RUN_NOT_FOUND, {"run_id": error.run_id}
        )

    async def on_no_worker(error: WorkerNotFound) -> Response:
        return problem_response(
            404, "worker not found", ErrorId.WORKER_NOT_FOUND, {"worker_id": error.worker_id}
        )

    async def on_not_steerable(error: WorkerNotSteerable) -> Response:
        return problem_response(
            409, "worker takes no orders", ErrorId.INVALID_WORKERS_REQUEST, {"reason": str(error)}
        )

    async def on_too_wide(error: SearchTooWide) -> Response:
        reason = f"{error}: narrow the list by status, flow, tag or time"
        return problem_response(
            422, "invalid list query", ErrorId.INVALID_LIST_QUERY, {"reason": reason}
        )

    async def on_too_large(error: RunTooLarge) -> Response:
        return problem_response(413, str(error), ErrorId.SNAPSHOT_TOO_LARGE)

    async def on_key_reused(error: KeyReused) -> Response:
        return problem_response(
            422, "idempotency key reused", ErrorId.INVALID_INPUT, {"reason": str(error)}
        )

    async def on_too_many(error: TooManyChecks) -> Response:
        return problem_response(
            429,
            "too many requests",
            ErrorId.TOO_MANY_REQUESTS,
            {"reason": str(error)},
            {"Retry-After": "1"},
        )

    async def on_unreadable(error: UnreadableSnapshot) -> Response:
        log.error("unreadable snapshot", err_id=error.error_id, reason=str(error))
        return problem_response(503, f"stored data unreadable: {error}", error.error_id)

    async def on_unavailable(error: Exception) -> Response:
        log.warning("nats unavailable", err_id=ErrorId.NATS_UNAVAILABLE, reason=str(error))
        return problem_response(
            503,
            f"nats unavailable: {type(error).__name__}",
            ErrorId.NATS_UNAVAILABLE,
            {"reason": str(error), **_orphan(error)},
            {"Retry-After": "1"},
        )

    app.register_error_handler(Problem, on_problem)
    app.register_error_handler(RunNotFound, on_not_found)
    app.register_error_handler(WorkerNotFound, on_no_worker)
    app.register_error_handler(WorkerNotSteerable, on_not_steerable)
    app.register_error_handler(SearchTooWide, on_too_wide)
    app.register_error_handler(RunTooLarge, on_too_large)
    app.register_error_handler(KeyReused, on_key_reused)
    app.register_error_handler(TooManyChecks, on_too_many)
    app.register_error_handler(UnreadableSnapshot, on_unreadable)
    for unavailable in _UNAVAILABLE:
        app.register_error_handler(unavailable, on_unavailable)
    app.register_error_handler(HTTPException, _on_http)


def _orphan(error: Exception) -> dict[str, str]:
    """The run that may show up although it was refused, for the client to look after."""
    run_id = error.run_id if isinstance(error, NotAccepted) else None
    if run_id is None:
        return {}
    return {"run_id": run_id, "err_id": ErrorId.ORPHAN_RUN, "msg_id": ErrorId.ORPHAN_RUN.msg_id}


async def _on_http(error: HTTPException) -> Response:
    """What Quart itself refuses, such as a path or a method that no route has."""
    status = error.code or 500
    headers: dict[str, str] = {}
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        headers["Allow"] = ", ".join(sorted(error.valid_methods))
    return problem_response(
        status,
        (error.name or "error").lower(),
        ErrorId.INVALID_INPUT if status < 500 else None,
        {"reason": error.description},
        headers,
    )
