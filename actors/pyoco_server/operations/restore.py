"""Putting a backup back: checked to its last byte before anything is touched, and then all of it or nothing.

A marker (`marker`) is on the server from before the first deletion until the end, and the work queue comes
back last: no run can be submitted or executed in between, and a restore that was killed is done again by
the same command. An error on the way puts back what was there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import BridgeError, KeyNotFound
from pyoco_server.jetstream.inventory import (
    StreamInfo,
    delete_stream,
    list_consumers,
    stream_info,
)
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.jetstream.publish import publish_acked, to_publish_again
from pyoco_server.jetstream.snapshots import restore_stream
from pyoco_server.jetstream.stored import get_message, purge_subject
from pyoco_server.model.idempotency import UnreadableIdempotencyRecord, decode_record
from pyoco_server.model.schedules.ticks import NotATiming
from pyoco_server.operations.archive import Archive, ArchiveUnusable, open_archive
from pyoco_server.operations.backup import Progress, backup, ignore
from pyoco_server.operations.manifest import LATE_JOBS, LateJob, Manifest, StreamPart
from pyoco_server.operations.marker import Marker, Phase, read_marker, remove_marker, set_marker
from pyoco_server.operations.ours import names_of, our_streams
from pyoco_server.operations.passed_ticks import PassedTicks, passed_ticks
from pyoco_server.settings import Settings


class RestoreRefused(Exception):
    """It was not begun, and nothing was touched; the text says why."""


class RestoreFailed(Exception):
    """It was begun and could not be finished; the text says what the server holds now."""


class _Taken(msgspec.Struct):
    """Of the state of a stream: when its last message was stored."""

    last_ts: datetime


@dataclass(frozen=True)
class Restored:
    """What was done.

    Attributes:
        manifest: What the backup says of itself.
        kept: Where the replaced data are, if there were any.
        resumed: Whether an unfinished restore was ended.
        passed: What becomes of the ticks of schedules that have passed since the backup; None where that
            cannot be said.
    """

    manifest: Manifest
    kept: Path | None
    resumed: bool
    passed: PassedTicks | None


async def restore(
    connection: Connection,
    settings: Settings,
    archive: Archive,
    *,
    keep: Path,
    replace: bool = False,
    replicas: int | None = None,
    progress: Progress = ignore,
) -> Restored:
    """Make the server's streams and buckets those of a backup.

    Cancelled or killed, it leaves the marker: nothing works with what is there, and the same command
    does all of it again.

    Args:
        connection: The way to NATS.
        settings: What names the streams.
        archive: The backup.
        keep: Where what is replaced is kept as a backup of its own.
        replace: Whether what the server holds may be replaced.
        replicas: Copies of each stream; as in the backup when None.
        progress: Told how far it is.

    Raises:
        ArchiveUnusable: The backup is not whole; nothing was touched.
        RestoreRefused: The server or the settings do not suit, or what is replaced cannot be kept; nothing
            was touched.
        RestoreFailed: It went wrong on the way.
        BridgeError: NATS refused or could not be asked, before anything was touched.
    """
    manifest = archive.manifest()
    archive.verify(manifest)
    _check_names(manifest, settings)
    digest = hashlib.sha256(msgspec.json.encode(manifest)).hexdigest()
    found = await our_streams(connection, settings)
    marker = await read_marker(connection)
    filling = marker is not None and (marker.phase, marker.archive) == (Phase.FILLING, digest)
    if filling and await _is_complete(connection, manifest):
        await _finish(connection, settings, archive)
        passed = await _passed(connection, settings)
        return Restored(manifest, None, resumed=True, passed=passed)
    kept = None
    if marker is None:
        await _check_server(connection, found, may_replace=replace)
        if any(stream.state.messages for stream in found):
            kept = keep
            try:
                await backup(connection, settings, kept)
            except ArchiveUnusable as error:
                raise RestoreRefused(f"what the server holds cannot be kept: {error}") from None
    most = max([replicas or 1, *(_replicas(part, replicas) for part in manifest.streams)])
    kept = Path(marker.kept) if marker is not None and marker.kept else kept
    emptying = Marker(Phase.EMPTYING, digest, "" if kept is None else str(kept.absolute()))
    await set_marker(connection, emptying, replicas=most, fresh=marker is None)
    try:
        # The work queue first: without it nothing can be submitted or executed.
        for stream in found:
            await delete_stream(connection, stream.name)
        filled = msgspec.structs.replace(emptying, phase=Phase.FILLING)
        await set_marker(connection, filled, replicas=most, fresh=False)
        await _fill(connection, archive, manifest, replicas, progress)
        await _finish(connection, settings, archive)
    except (BridgeError, ArchiveUnusable) as error:
        raise await _put_back(connection, settings, emptying, most, error) from error
    passed = await _passed(connection, settings)
    return Restored(manifest, kept, resumed=marker is not None, passed=passed)


async def _passed(connection: Connection, settings: Settings) -> PassedTicks | None:
    with suppress(BridgeError, NotATiming):  # all is restored by then
        return await passed_ticks(connection, settings)
    return None


def _check_names(manifest: Manifest, settings: Settings) -> None:
    theirs = {
        **manifest.names,
        "PYOCO_RUNS_KV_BUCKET": manifest.runs_bucket,
        "work_stream": manifest.work_stream,
    }
    ours = {**names_of(settings), "work_stream": settings.work_stream}
    if other := [f"{what}={name}" for what, name in theirs.items() if ours.get(what, name) != name]:
        raise RestoreRefused(
            f"the settings name other streams or buckets than those of the backup: set {', '.join(other)}"
        )


async def _check_server(
    connection: Connection, found: Sequence[StreamInfo], *, may_replace: bool
) -> None:
    used = [s for s in found if s.state.messages]
    if used and not may_replace:
        holds = ", ".join(f"{s.name} ({s.state.messages})" for s in used)
        raise RestoreRefused(f"the server holds data already: {holds}; --replace replaces them")
    for stream in found:
        for consumer in await list_consumers(connection, stream.name):
            if consumer.num_waiting or consumer.push_bound:
                raise RestoreRefused(
                    f"somebody works with this server: consumer {consumer.name} of {stream.name} is "
                    "asked for messages; stop gateways and workers first"
                )


async def _fill(
    connection: Connection,
    archive: Archive,
    manifest: Manifest,
    replicas: int | None,
    progress: Progress,
) -> None:
    for part in reversed(manifest.streams):
        config: dict[str, Any] = {**part.config, "num_replicas": _replicas(part, replicas)}
        pieces = _told(part, archive.pieces(part.file), progress)
        try:
            await restore_stream(connection, config, bytes(part.state), pieces)
        except BridgeError:
            # nats-server 2.15 keeps what it had read when the rest is refused.
            await delete_stream(connection, part.stream)
            raise


def _told(part: StreamPart, pieces: Iterator[bytes], progress: Progress) -> Iterator[bytes]:
    done = 0
    progress(part.stream, 0, part.bytes)
    for piece in pieces:
        yield piece
        done += len(piece)
        progress(part.stream, done, part.bytes)


async def _finish(connection: Connection, settings: Settings, archive: Archive) -> None:
    await _forget_late_keys(connection, settings, archive.manifest())
    for line in b"".join(archive.pieces(LATE_JOBS)).splitlines():
        job = msgspec.json.decode(line, type=LateJob)
        # Their message ids make a second try harmless. Backups of 0.6 hold the headers of batches too.
        await publish_acked(
            connection, job.subject, job.data, headers=to_publish_again(job.headers)
        )
    await remove_marker(connection)


async def _forget_late_keys(connection: Connection, settings: Settings, manifest: Manifest) -> None:
    """Remove the idempotency keys of runs that were accepted behind the snapshot of the runs.

    The next try, as that of a tick of a schedule that is decided again, would be answered with a run that
    is not there.
    """
    runs = KeyValue(connection, settings.runs_kv_bucket)
    keys = KeyValue(connection, settings.idempotency_kv_bucket)
    part = next((part for part in manifest.streams if part.stream == runs.stream), None)
    info = await stream_info(connection, keys.stream)
    if part is None or info is None:
        return
    taken = msgspec.json.decode(part.state, type=_Taken).last_ts.timestamp()
    for sequence in range(info.state.last_seq, info.state.first_seq - 1, -1):
        message = await get_message(connection, keys.stream, sequence)
        if message is None:
            continue
        if message.stored_at <= taken:
            return
        with suppress(UnreadableIdempotencyRecord):
            record = decode_record(message.data)
            if not record.accepted:
                continue
            try:
                await runs.get(record.run_id)
            except KeyNotFound:
                await purge_subject(connection, keys.stream, message.subject)


async def _is_complete(connection: Connection, manifest: Manifest) -> bool:
    """Whether the work queue, which comes last, is there to its last message."""
    part = next((p for p in manifest.streams if p.stream == manifest.work_stream), None)
    info = await stream_info(connection, manifest.work_stream)
    return part is not None and info is not None and info.state.last_seq >= part.last_seq


async def _put_back(
    connection: Connection, settings: Settings, emptying: Marker, most: int, error: Exception
) -> RestoreFailed:
    kept = Path(emptying.kept) if emptying.kept else None
    try:
        # Broken off, it is not to be taken for a restore that is nearly done: what is there is older.
        gone = await read_marker(connection) is None
        await set_marker(connection, emptying, replicas=most, fresh=gone)
        for stream in await our_streams(connection, settings):
            await delete_stream(connection, stream.name)
        if kept is None:
            await remove_marker(connection)
            return RestoreFailed(f"{error}; the server is as empty as before")
        with open_archive(kept) as archive:
            await _fill(connection, archive, archive.manifest(), None, ignore)
            await _finish(connection, settings, archive)
        return RestoreFailed(f"{error}; the server holds again what it held before")
    except (BridgeError, ArchiveUnusable) as again:
        where = f", and what was there before is in {kept}" if kept else ""
        return RestoreFailed(
            f"{error}; putting back failed as well ({again}): the server holds a part of a backup, "
            f"which gateways and workers refuse{where}; give the same command again"
        )


def _replicas(part: StreamPart, wanted: int | None) -> int:
    return wanted or int(part.config.get("num_replicas", 1))
