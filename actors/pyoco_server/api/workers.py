"""Workers: listed, hidden, told what to do."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, TypeAlias

import msgspec
from msgspec import Meta

from pyoco_server.api.base import JsonBody, Query, says
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.worker import WorkerState


class Scope(StrEnum):
    """Which workers a list has."""

    ACTIVE = "active"
    ALL = "all"


class WorkersQuery(Query, frozen=True, kw_only=True):
    """Which workers."""

    refusal: ClassVar[str | None] = "invalid workers request"
    error_id: ClassVar[ErrorId] = ErrorId.INVALID_WORKERS_REQUEST

    scope: Annotated[Scope, says("active: RUNNING and IDLE ones.")] = Scope.ACTIVE
    state: Annotated[tuple[WorkerState, ...], says("Only workers of this state.")] = ()
    include_hidden: Annotated[bool, says("Whether hidden ones too.")] = False
    tag: Annotated[str, says("Only workers with this tag.")] = ""
    limit: Annotated[int, Meta(ge=1, le=500, description="How many at most.")] = 100


class HiddenBody(JsonBody, kw_only=True):
    """The body of `PATCH /workers/{worker_id}`."""

    refusal: ClassVar[str | None] = WorkersQuery.refusal
    error_id: ClassVar[ErrorId] = WorkersQuery.error_id

    hidden: bool


Words: TypeAlias = Annotated[str, Meta(max_length=500)]


class OrderBody(JsonBody, kw_only=True):
    """The body of `POST /workers/{worker_id}/pause` and its like."""

    reason: Words | None = None
    """Why, for people."""
    requested_by: Words | None = None
    """Who asks, where the gateway asks for no keys."""


class WorkerHidden(msgspec.Struct, kw_only=True, frozen=True):
    """A worker that is hidden, or shown again."""

    worker_id: str
    hidden: bool
    updated_at: float


class WorkerOrdered(msgspec.Struct, kw_only=True, frozen=True):
    """What a worker was told."""

    worker_id: str
    instance_id: str
    paused: bool
    draining: bool
    ordered_at: float | None
    ordered_by: str | None
    order_reason: str | None
    updated_at: float
