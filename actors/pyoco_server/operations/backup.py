"""A backup while everything runs: the work queue, the schedules, the runs, then the rest.

A job of the queue whose run has ended by the time the runs are taken is dropped at its claim; one that is
queued by then is heard (`_LateJobs`). Why schedules come before runs tells `our_streams`.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import msgspec

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import BridgeError, NotFound
from pyoco_server.jetstream.inventory import StreamInfo, stream_info
from pyoco_server.jetstream.publish import to_publish_again
from pyoco_server.jetstream.requests import RawMessage
from pyoco_server.jetstream.snapshots import SnapshotBroken, open_snapshot
from pyoco_server.jetstream.stored import get_message
from pyoco_server.operations.archive import Archive, create_archive
from pyoco_server.operations.manifest import (
    LATE_JOBS,
    MANIFEST,
    BackupFile,
    LateJob,
    Manifest,
    StreamPart,
)
from pyoco_server.operations.ours import names_of, our_streams
from pyoco_server.settings import Settings

Progress = Callable[[str, int, int], None]
"""Told the name of a part, its bytes so far, and about how many they will be."""

_ONLY_VALUES = ("KV_", "OBJ_")
# How much later than its snapshot the job of a run may be queued, whichever try queues it.
_SUBMITTED_SECONDS = 15.0


class NothingToBackUp(BridgeError):
    """JetStream holds nothing of ours."""


def ignore(part: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""


async def backup(
    connection: Connection,
    settings: Settings,
    out: Path,
    *,
    folder: bool = False,
    progress: Progress = ignore,
) -> Manifest:
    """Write a backup of all that is ours; gateways and workers may go on meanwhile.

    Broken off, by an error or by cancellation, it leaves nothing behind.

    Args:
        connection: The way to NATS.
        settings: What names the streams.
        out: Where to; nothing may be there.
        folder: A folder instead of one file.
        progress: Told how far it is.

    Raises:
        NothingToBackUp: There is nothing of ours.
        ArchiveUnusable: It cannot be written.
        BridgeError: NATS refused, gave up, or went away.
    """
    with create_archive(out, folder=folder) as archive:
        async with _late_jobs(connection, settings) as late:
            streams = await our_streams(connection, settings)
            if not streams:
                raise NothingToBackUp("NATS holds no stream or bucket of pyoco-server")
            taken: list[StreamPart] = []
            for stream in streams:
                taken.append(await _take(connection, stream, archive, progress))
                if stream.name == settings.work_stream:
                    await late.forget_up_to(taken[-1].last_seq)
                if stream.name == f"KV_{settings.runs_kv_bucket}":
                    late.until = time.monotonic() + _SUBMITTED_SECONDS
            jobs = await late.end()
        manifest = Manifest(
            version=version("pyoco-server"),
            nats_version=connection.status.server_version or "",
            created_at=time.time(),
            work_stream=settings.work_stream,
            runs_bucket=settings.runs_kv_bucket,
            names=names_of(settings),
            streams=taken,
            late_jobs=_write_jobs(archive, jobs),
            late_job_count=len(jobs),
        )
        with archive.writing(MANIFEST) as part:
            part.write(msgspec.json.format(msgspec.json.encode(manifest)))
    return manifest


async def _take(
    connection: Connection, stream: StreamInfo, archive: Archive, progress: Progress
) -> StreamPart:
    consumers = not stream.name.startswith(_ONLY_VALUES)  # a bucket's are those of passing watches
    async with open_snapshot(connection, stream.name, consumers=consumers) as snapshot:
        with archive.writing(f"streams/{stream.name}.snapshot") as part:
            progress(stream.name, 0, snapshot.holds.bytes)
            async for chunk in snapshot.chunks:
                part.write(chunk)
                progress(stream.name, part.size, max(snapshot.holds.bytes, part.size))
    progress(stream.name, part.size, part.size)
    return StreamPart(
        **msgspec.structs.asdict(part.done()),
        stream=stream.name,
        config=snapshot.config,
        state=msgspec.Raw(snapshot.state),
        messages=snapshot.holds.messages,
        last_seq=snapshot.holds.last_seq,
    )


def _write_jobs(archive: Archive, jobs: list[LateJob]) -> BackupFile:
    with archive.writing(LATE_JOBS) as part:
        for job in jobs:
            part.write(msgspec.json.encode(job) + b"\n")
    return part.done()


class _LateJobs:
    """The jobs that are queued between the snapshot of the queue and that of the runs, or a moment later.

    A job may be queued, executed and taken off the queue in that time, so that the queue cannot be asked
    for it afterwards: they are heard as they are published.

    Attributes:
        lost: Whether some may not have been heard.
        until: Until when they are heard, on the monotonic clock.
    """

    def __init__(self, connection: Connection, stream: str, last_seq: int) -> None:
        self._connection = connection
        self._stream = stream
        self._last_seq = last_seq
        self._heard: list[RawMessage] = []
        self._in_queue: set[bytes] = set()
        self.lost = False
        self.until = math.inf

    def hear(self, message: RawMessage) -> None:
        if time.monotonic() < self.until:
            self._heard.append(message)

    def lose(self) -> None:
        self.lost = self.lost or time.monotonic() < self.until

    async def forget_up_to(self, last_seq: int) -> None:
        """Leave out what the snapshot of the queue has as well, or it would be queued twice."""
        for sequence in range(self._last_seq + 1, last_seq + 1):
            # One that is gone by now was executed to its end: queued again, it is dropped at its claim.
            with suppress(NotFound):
                if got := await get_message(self._connection, self._stream, sequence):
                    self._in_queue.add(got.data)

    async def end(self) -> list[LateJob]:
        """What was heard, once everything that was under way has come."""
        # The server answers on the same connection, behind what it sent before.
        await stream_info(self._connection, self._stream)
        if self.lost:
            raise SnapshotBroken("the connection broke while jobs were listened to; try again")
        return [
            LateJob(subject=m.subject, headers=to_publish_again(m.headers), data=m.payload)
            for m in self._heard
            if m.payload not in self._in_queue
        ]


@asynccontextmanager
async def _late_jobs(connection: Connection, settings: Settings) -> AsyncIterator[_LateJobs]:
    stream = settings.work_stream
    info = await stream_info(connection, stream)
    late = _LateJobs(connection, stream, 0 if info is None else info.state.last_seq)
    feed = connection.open_feed(f"{settings.work_subject_prefix}.>", late.hear, late.lose)
    try:
        yield late
    finally:
        connection.close_feed(feed)
