"""Workers: listed, hidden, told what to do."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from pyoco_server.api.base import JsonBody, Query
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

    scope: Annotated[Scope, Meta(description="active: RUNNING and IDLE ones.")] = Scope.ACTIVE
    state: Annotated[tuple[WorkerState, ...], Meta(description="Only workers of this state.")] = ()
    include_hidden: Annotated[bool, Meta(description="Whether hidden ones too.")] = False
    limit: Annotated[int, Meta(ge=1, le=500, description="How many at most.")] = 100


class HiddenBody(JsonBody, kw_only=True):
    """The body of `PATCH /workers/{worker_id}`."""

    refusal: ClassVar[str | None] = WorkersQuery.refusal
    error_id: ClassVar[ErrorId] = WorkersQuery.error_id

    hidden: bool


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
    updated_at: float
