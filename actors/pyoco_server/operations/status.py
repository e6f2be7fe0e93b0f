"""An installation at a glance."""

from __future__ import annotations

from collections import Counter
from typing import Any

import httpx
import msgspec

from pyoco_server.client.wire import made
from pyoco_server.jetstream.connection import Connection
from pyoco_server.model.worker import WorkerState
from pyoco_server.operations.doctor.look import Look, look_at
from pyoco_server.settings import Settings

_ANSWER_SECONDS = 5.0


class GatewayStatus(msgspec.Struct, kw_only=True):
    """The gateway, as a client sees it."""

    url: str
    state: str
    """``ready``, ``not ready`` or ``unreachable``."""
    reasons: list[str] = msgspec.field(default_factory=list)


class NatsStatus(msgspec.Struct, kw_only=True):
    """NATS, and what of it is ours."""

    server: str
    version: str
    streams: int
    bytes: int
    lost_nodes: list[str] = msgspec.field(default_factory=list)


class QueueStatus(msgspec.Struct, kw_only=True):
    """The jobs of a tag."""

    tag: str
    waiting: int
    executing: int
    workers: int
    """Workers that take jobs of that tag and show signs of life."""
    paused: bool = False


class WorkerStatus(msgspec.Struct, kw_only=True):
    """A worker."""

    worker_id: str
    state: WorkerState
    tags: list[str]
    slots: int
    busy: int
    last_seen_at: float
    paused: bool = False
    draining: bool = False
    resting: bool = False
    """Whether a slot of it takes no runs, since the machine lacks what that takes."""

    @property
    def takes_jobs(self) -> bool:
        """Whether it is there, and no operator told it to take none."""
        return self.state.active and not (self.paused or self.draining)


class Status(msgspec.Struct, kw_only=True):
    """All of it."""

    gateway: GatewayStatus
    nats: NatsStatus
    queues: list[QueueStatus]
    workers: list[WorkerStatus]
    runs: dict[str, int] | None
    """How many by status; None when there are too many to count."""
    dead_letters: int


async def status_of(connection: Connection, settings: Settings, server: str) -> Status:
    """Look at NATS and ask the gateway.

    Raises:
        BridgeError: NATS refused or could not be asked.
    """
    look = await look_at(connection, settings)
    workers = _workers(look)
    letters = look.streams.get(settings.dlq_stream)
    return Status(
        gateway=await gateway_status(server),
        nats=_nats(look),
        queues=_queues(look, workers),
        workers=workers,
        runs=None if look.runs is None else dict(Counter(str(run.status) for run in look.runs)),
        dead_letters=0 if letters is None else letters.state.messages,
    )


async def gateway_status(server: str) -> GatewayStatus:
    """Ask the gateway whether it is ready."""
    try:
        async with made(httpx.AsyncClient, server, timeout=_ANSWER_SECONDS) as client:
            answer = await client.get("/health/ready")
        body: Any = answer.json()
        return GatewayStatus(
            url=server, state=str(body["status"]), reasons=list(map(str, body["reasons"]))
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        why = str(error) or type(error).__name__
    except (ValueError, KeyError, TypeError):
        why = "what answers there is no gateway of this version"
    return GatewayStatus(url=server, state="unreachable", reasons=[why])


def _nats(look: Look) -> NatsStatus:
    status = look.connection.status
    return NatsStatus(
        server=status.server or "",
        version=status.server_version or "",
        streams=len(look.streams),
        bytes=sum(stream.state.bytes for stream in look.streams.values()),
        lost_nodes=sorted({peer.name for _, peer in look.peers() if peer.lost}),
    )


def _workers(look: Look) -> list[WorkerStatus]:
    found = [
        WorkerStatus(
            worker_id=record.worker_id,
            state=look.state_of(record),
            tags=record.tags,
            slots=len(record.slots) or 1,
            busy=sum(slot.run_id is not None for slot in record.slots)
            or int(record.current_run_id is not None),
            last_seen_at=record.last_seen_at,
            paused=record.paused,
            draining=record.draining,
            resting=any(slot.resting for slot in record.slots),
        )
        for record, _ in look.workers
        if not record.hidden
    ]
    return sorted(found, key=lambda worker: (not worker.state.active, -worker.last_seen_at))


def _queues(look: Look, workers: list[WorkerStatus]) -> list[QueueStatus]:
    prefix = f"{look.settings.consumer_prefix}_"
    tags = {c.name.removeprefix(prefix) for c in look.consumers if c.name.startswith(prefix)}
    rows = []
    for tag in sorted(tags | look.queued.keys()):
        consumer = look.consumer_of(tag)
        executing = 0 if consumer is None else consumer.num_ack_pending
        rows.append(
            QueueStatus(
                tag=tag,
                waiting=max(look.queued.get(tag, 0) - executing, 0),
                executing=executing,
                workers=sum(tag in worker.tags and worker.takes_jobs for worker in workers),
                paused=consumer is not None and consumer.paused,
            )
        )
    return rows
