"""How the installation is: health, actors, queues, what happened lately; and a flow.yaml, looked at."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from pyoco_server.api.base import Query, says
from pyoco_server.model.api_key import Role
from pyoco_server.model.flow.check import FlowFinding
from pyoco_server.model.flow.reader import TaskConfig
from pyoco_server.model.flow.structure import GraphStructure

MOST_MINUTES: Final = 43_200
MOST_STEPS: Final = 1440
"""How far `GET /stats` looks back, and into how many parts it is divided at most."""


class Health(msgspec.Struct, kw_only=True, frozen=True):
    """The process is alive."""

    status: Literal["ok"] = "ok"


class Whoami(msgspec.Struct, kw_only=True, frozen=True):
    """Who makes a call, and what they may do."""

    tenant_id: str | None
    """Whose runs they see; null, where the gateway asks for no keys, is everybody's."""
    key_id: str | None
    """Their key; null where the gateway asks for none."""
    roles: list[Role]
    """What they may do beyond reading."""
    version: str
    """Of the gateway."""


class NatsHealth(msgspec.Struct, kw_only=True, frozen=True):
    """The connection to NATS."""

    connected: bool
    server: str | None
    reconnects: int
    last_error: str | None


class ReadyAnswer(msgspec.Struct, kw_only=True, frozen=True):
    """Whether the gateway can do its work."""

    status: Literal["ready", "not ready"]
    reasons: list[str]
    """What stands in the way."""
    nats: NatsHealth


class ActorNode(msgspec.Struct, kw_only=True, frozen=True):
    """An actor or supervisor and what stands below it. Times are seconds."""

    path: str
    kind: str
    state: str
    incarnation: int
    restarts: int
    up_seconds: float | None
    last_error: str | None
    last_error_age_seconds: float | None
    strategy: str | UnsetType = UNSET
    """Of a supervisor; the following of an actor."""
    mailbox_depth: int | UnsetType = UNSET
    mailbox_capacity: int | UnsetType = UNSET
    waiting_senders: int | UnsetType = UNSET
    messages: int | UnsetType = UNSET
    refusals: int | UnsetType = UNSET
    busy_seconds: float | UnsetType = UNSET
    seconds_per_message: float | UnsetType | None = UNSET
    longest_seconds: float | UnsetType = UNSET
    children: list[ActorNode]


class ActorTree(msgspec.Struct, kw_only=True, frozen=True):
    """The supervision tree."""

    tree: ActorNode


class WaitingReason(StrEnum):
    """Why the jobs of a tag wait."""

    NO_WORKER = "no_worker"
    """No worker of the tag is there."""
    PAUSED = "paused"
    """Each of them is paused or draining."""
    BUSY = "busy"
    """They have no free slot."""


class Queue(msgspec.Struct, kw_only=True, frozen=True):
    """The jobs of one tag."""

    tag: str
    pending: int
    """Jobs that no worker has taken yet; runs that wait for their next attempt are none."""
    ack_pending: int = 0
    """Jobs that workers hold."""
    waiting_pulls: int = 0
    """Pulls of workers that wait for a job."""
    redelivered: int = 0
    """How many of the jobs that workers hold were delivered before."""
    consumer: bool = True
    """Whether the tag has a consumer: else no worker ever asked for it."""
    waiting_reason: WaitingReason | None = None
    """Why jobs wait; null where none do, or where they are about to be taken."""


class Queues(msgspec.Struct, kw_only=True, frozen=True):
    """The queues of all tags, by name."""

    queues: list[Queue]
    dead_letters: int | None


class StatsQuery(Query, frozen=True, kw_only=True):
    """How far to look back."""

    refusal: ClassVar[str | None] = "invalid stats request"

    minutes: Annotated[int, Meta(ge=1, le=MOST_MINUTES, description="How many.")] = 60
    step_minutes: Annotated[
        int,
        Meta(
            ge=1,
            le=MOST_MINUTES,
            description=f"How many of them are one of the answer's; it has at most {MOST_STEPS:,}.",
        ),
    ] = 1
    percentiles: Annotated[
        bool, says("Whether p50, p95 and p99 of waits and runs come as well.")
    ] = False


class Minute(msgspec.Struct, kw_only=True, frozen=True):
    """What happened in a minute, or in a step of several; averages are seconds, null for none."""

    start: int
    """Its beginning, in unix seconds."""
    submitted: int
    started: int
    completed: int
    failed: int
    cancelled: int
    ended: int
    wait_avg: float | None
    """How long those that started had waited."""
    run_avg: float | None
    """How long those that ended had run."""
    wait_p50: float | UnsetType = UNSET
    """This and the following where percentiles were asked for, and there were runs."""
    wait_p95: float | UnsetType = UNSET
    wait_p99: float | UnsetType = UNSET
    run_p50: float | UnsetType = UNSET
    run_p95: float | UnsetType = UNSET
    run_p99: float | UnsetType = UNSET


class Percentiles(msgspec.Struct, kw_only=True, frozen=True):
    """Of the whole time, in seconds: ``p50``, ``p95`` and ``p99``, where there were runs."""

    wait: dict[str, float]
    run: dict[str, float]
    every: int
    """1 where all runs were looked at, else each how manieth."""


class Stats(msgspec.Struct, kw_only=True, frozen=True):
    """What happened in each of the last minutes."""

    minutes: list[Minute]
    percentiles: Percentiles | UnsetType = UNSET


class CheckedFlow(msgspec.Struct, kw_only=True, frozen=True):
    """What a flow.yaml says."""

    graph: GraphStructure
    defaults: dict[str, Any]
    tasks: dict[str, TaskConfig]
    unlisted: list[str]
    """Tasks of the graph that the file says nothing of."""
    sha256: str
    bytes: int
    findings: list[FlowFinding]
    """What most likely is not meant as it stands there."""
