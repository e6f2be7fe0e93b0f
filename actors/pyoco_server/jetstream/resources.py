"""Streams, buckets and consumers: made where they are missing; those that exist keep their settings."""

from __future__ import annotations

from typing import Any

import structlog

from pyoco_server.jetstream import advisories, wakeups
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.consumer import NANOSECONDS, create_consumer
from pyoco_server.jetstream.errors import STREAM_EXISTS, ApiError, NotFound, RestoreUnfinished
from pyoco_server.jetstream.inventory import (
    consumer_info,
    create_stream,
    stream_info,
    update_stream,
)
from pyoco_server.settings import Settings

log = structlog.get_logger(__name__)

_DUPLICATE_WINDOW = 120 * NANOSECONDS
# A text outlives the runs that name it: it is written again once a day where one brings it, and each week
# where one waits or goes on for long.
_WORKFLOW_EXTRA_SECONDS = 14 * 24 * 3600.0
_IDEMPOTENCY_SECONDS = 24 * 3600.0
_ADVISORY_SECONDS = 7 * 24 * 3600.0
# A stream that is there from before a restore touches anything until it is done.
RESTORE_MARKER = "PYOCO_RESTORE"
_CREATE_SECONDS = 10.0


def expected_streams(settings: Settings) -> list[dict[str, Any]]:
    """The configuration of every stream, bucket and object store of the contract, as we make it."""
    configs = [
        _schedulable(settings.work_stream, [f"{settings.work_subject_prefix}.>"]),
        _stream(
            settings.dlq_stream,
            [f"{settings.dlq_subject_prefix}.>"],
            age_seconds=settings.dlq_max_age_sec,
            max_msgs=settings.dlq_max_msgs,
            max_bytes=settings.dlq_max_bytes,
        ),
        _stream(
            settings.events_stream,
            [f"{settings.events_subject_prefix}.>"],
            age_seconds=settings.events_max_age_sec,
            max_bytes=settings.events_max_bytes,
            compression="s2",
        ),
        _stream(
            advisories.STREAM,
            [advisories.advisory_subject(settings.work_stream)],
            age_seconds=_ADVISORY_SECONDS,
            retention="workqueue",
        ),
        _schedulable(wakeups.STREAM, [f"{wakeups.SUBJECT_PREFIX}.>"]),
        _bucket(settings.runs_kv_bucket, allow_atomic=True),
        _bucket(
            settings.workflows_kv_bucket,
            age_seconds=settings.runs_ttl_sec and settings.runs_ttl_sec + _WORKFLOW_EXTRA_SECONDS,
        ),
        _bucket(
            settings.idempotency_kv_bucket, age_seconds=_IDEMPOTENCY_SECONDS, allow_atomic=True
        ),
        _bucket(settings.schedules_kv_bucket, allow_atomic=True),
        _bucket(settings.workers_kv_bucket),
        _bucket(settings.auth_kv_bucket),
        _bucket(settings.wheel_history_kv_bucket, age_seconds=settings.wheel_history_ttl_sec),
        _object_store(settings.wheel_object_store_bucket),
        _object_store(settings.artifacts_bucket),
    ]
    return [{**config, "num_replicas": settings.jetstream_replicas} for config in configs]


async def ensure_resources(connection: Connection, settings: Settings) -> None:
    """Create every stream and bucket of the contract that does not exist.

    Raises:
        RestoreUnfinished: A backup is being put back, or was not to its end; nothing was made.
        ApiError: JetStream refused, for want of space or of enough servers for the replicas.
        BridgeError: Not connected, or not answered.
    """
    if await stream_info(connection, RESTORE_MARKER) is not None:
        raise RestoreUnfinished(
            "a backup is being restored, or its restore was broken off: "
            "let it end, or give the same pyoco-server restore command again"
        )
    for config in expected_streams(settings):
        await _ensure_stream(connection, config)
    runs = f"KV_{settings.runs_kv_bucket}"
    await _allow(connection, runs, "allow_msg_ttl", "ended runs do not expire by themselves")
    await _allow(
        connection,
        settings.work_stream,
        "allow_msg_schedules",
        "a run that waits for its next attempt holds a delivery of its tag's consumer",
    )
    await _allow(
        connection,
        wakeups.STREAM,
        "allow_msg_schedules",
        "gateways keep the time of schedules themselves",
    )


async def ensure_consumer(connection: Connection, settings: Settings, tag: str) -> None:
    """Create the durable consumer that all workers of a tag share; raises as `create_consumer`."""
    stream, name = settings.work_stream, f"{settings.consumer_prefix}_{tag}"
    try:
        await consumer_info(connection, stream, name)
    except NotFound:
        await create_consumer(
            connection,
            stream,
            name,
            subject=f"{settings.work_subject_prefix}.{tag}",
            ack_wait_sec=settings.consumer_ack_wait_sec,
            max_deliver=settings.consumer_max_deliver,
            max_ack_pending=settings.consumer_max_ack_pending,
            within=_CREATE_SECONDS,
        )


async def _ensure_stream(connection: Connection, config: dict[str, Any]) -> None:
    name = config["name"]
    if await stream_info(connection, name) is None:
        try:
            await create_stream(connection, config)
        except ApiError as error:
            # Somebody else may have made it in between.
            if error.err_code != STREAM_EXISTS:
                why = f"{name} cannot be made: {error.description}"
                raise ApiError(error.code, error.err_code, why) from None


async def _allow(connection: Connection, stream: str, feature: str, without: str) -> None:
    """Switch on what a stream that 0.5.1 made does not allow, where the server can do that."""
    info = await stream_info(connection, stream)
    if info is None or info.config.get(feature):
        return
    try:
        await update_stream(connection, info.config | {feature: True})
    except ApiError as error:
        log.info(without, stream=stream, reason=str(error))


def _stream(
    name: str, subjects: list[str], *, age_seconds: float = 0.0, **further: Any
) -> dict[str, Any]:
    age = int(age_seconds * NANOSECONDS)
    return {
        "name": name,
        "subjects": subjects,
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "max_consumers": -1,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": age,
        "max_msg_size": -1,
        "duplicate_window": min(age or _DUPLICATE_WINDOW, _DUPLICATE_WINDOW),
        **further,
    }


def _schedulable(name: str, subjects: list[str]) -> dict[str, Any]:
    """A work queue that holds messages back until it is time (`publish.delayed`)."""
    return _stream(
        name,
        subjects,
        retention="workqueue",
        allow_atomic=True,
        allow_msg_schedules=True,
        allow_rollup_hdrs=True,
    )


def _bucket(name: str, **further: Any) -> dict[str, Any]:
    """The stream of a key-value bucket (ADR-8), as nats-py makes it, with per-key expiry allowed."""
    return _stream(
        f"KV_{name}",
        [f"$KV.{name}.>"],
        max_msgs_per_subject=1,
        discard="new",
        allow_rollup_hdrs=True,
        deny_delete=True,
        allow_direct=True,
        allow_msg_ttl=True,
        **further,
    )


def _object_store(name: str) -> dict[str, Any]:
    """The stream of an object store (ADR-20), as nats-py makes it, without a limit of its own."""
    return _stream(
        f"OBJ_{name}",
        [f"$O.{name}.C.>", f"$O.{name}.M.>"],
        discard="new",
        allow_rollup_hdrs=True,
        allow_direct=True,
    )
