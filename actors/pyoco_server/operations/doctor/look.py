"""What the checks look at, read once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

import trio
from msgspec.structs import replace

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import BridgeError, Unanswered
from pyoco_server.jetstream.inventory import (
    AccountInfo,
    ConsumerInfo,
    Peer,
    StreamInfo,
    account_info,
    list_consumers,
    stream_info,
    subjects_of,
)
from pyoco_server.jetstream.keyvalue import Entry, KeyValue
from pyoco_server.model.run import RunSnapshot, decode_snapshot
from pyoco_server.model.schedules.schedule import Schedule, decode_schedule
from pyoco_server.model.worker import (
    WorkerRecord,
    WorkerState,
    decode_worker,
    effective_state,
    last_sign,
)
from pyoco_server.operations.ours import our_streams
from pyoco_server.settings import Settings
from pyoco_server.store.entries import readable
from pyoco_server.store.queue import jobs_by_tag

T = TypeVar("T")

_READ_SECONDS = 20.0


@dataclass(frozen=True)
class Look:
    """An installation at one moment.

    Attributes:
        connection: The way to NATS.
        settings: What is expected.
        now: Unix seconds, by the server's clock.
        account: Use and limits of JetStream.
        streams: Ours, by name.
        consumers: Those of the work queue.
        queued: Jobs by tag, those being executed included.
        delayed: Jobs by tag of runs that wait for their next attempt.
        workers: Records with what stored them; ``last_seen_at`` is by the server's clock too.
        runs: Snapshots; None when they could not be read in time.
        schedules: Those that could be read in time.
    """

    connection: Connection
    settings: Settings
    now: float
    account: AccountInfo
    streams: dict[str, StreamInfo]
    consumers: list[ConsumerInfo]
    queued: Counter[str]
    delayed: Counter[str]
    workers: list[tuple[WorkerRecord, Entry]]
    runs: list[RunSnapshot] | None = field(default_factory=list)
    schedules: list[Schedule] = field(default_factory=list)

    def consumer_of(self, tag: str) -> ConsumerInfo | None:
        """The consumer of a tag's jobs."""
        name = f"{self.settings.consumer_prefix}_{tag}"
        return next((found for found in self.consumers if found.name == name), None)

    def state_of(self, worker: WorkerRecord) -> WorkerState:
        """How a worker is, by when it showed its last sign of life."""
        return effective_state(worker, self.now, self.settings.worker_disconnect_timeout_sec)

    @property
    def served(self) -> set[str]:
        """The tags of the workers that show signs of life."""
        return {tag for each, _ in self.workers if self.state_of(each).active for tag in each.tags}

    def peers(self) -> Iterator[tuple[StreamInfo, Peer]]:
        """Each server that holds a further copy of a stream, with the stream."""
        for stream in self.streams.values():
            for peer in stream.cluster.replicas if stream.cluster else ():
                yield stream, peer


async def look_at(connection: Connection, settings: Settings) -> Look:
    """Read everything that the checks need.

    Raises:
        BridgeError: NATS refused or could not be asked.
    """
    account = await account_info(connection)
    streams = {stream.name: stream for stream in await our_streams(connection, settings)}
    work = settings.work_stream
    consumers = await list_consumers(connection, work) if work in streams else []
    subjects = await subjects_of(connection, work) if work in streams else {}
    queued, delayed = jobs_by_tag(subjects, settings.work_subject_prefix)
    workers = await values_of(connection, streams, settings.workers_kv_bucket, _worker)
    runs = await values_of(
        connection, streams, settings.runs_kv_bucket, lambda entry: decode_snapshot(entry.value)
    )
    # Beside them are the texts that they brought.
    schedules = await values_of(
        connection,
        streams,
        settings.schedules_kv_bucket,
        lambda entry: decode_schedule(entry.value),
    )
    if streams:
        # For the time that it tells; where its leader does not answer, there is worse to tell than clocks.
        with suppress(BridgeError):
            await stream_info(connection, work if work in streams else next(iter(streams)))
    return Look(
        connection=connection,
        settings=settings,
        now=connection.clock.now(),
        account=account,
        streams=streams,
        consumers=consumers,
        queued=queued,
        delayed=delayed,
        workers=workers or [],
        runs=runs,
        schedules=schedules or [],
    )


async def values_of(
    connection: Connection,
    streams: dict[str, StreamInfo],
    bucket: str,
    read: Callable[[Entry], T],
) -> list[T] | None:
    """What ``read`` makes of the entries of a bucket; None where they could not be read in time."""
    if f"KV_{bucket}" not in streams:
        return []
    try:
        with trio.fail_after(_READ_SECONDS):
            return await readable(KeyValue(connection, bucket), read)
    except (trio.TooSlowError, Unanswered):
        return None


def _worker(entry: Entry) -> tuple[WorkerRecord, Entry]:
    record = decode_worker(entry.value, worker_id=entry.key)
    return replace(record, last_seen_at=last_sign(record, entry.created)), entry
