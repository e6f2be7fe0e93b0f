"""The gateway's part of the supervision tree."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Never, TypeAlias

import structlog

from pyoco_server.gateway.artifact_keeper import ArtifactKeeper, ArtifactKeeperMessage
from pyoco_server.gateway.canceller import Cancel, Canceller
from pyoco_server.gateway.dead_letter_desk import DeadLetterDesk
from pyoco_server.gateway.event_keeper import EventKeeper, RunsGone
from pyoco_server.gateway.event_reader import EventFeeds, EventReader, FeedMessage
from pyoco_server.gateway.idempotency import OnceOnly
from pyoco_server.gateway.intake import Intake
from pyoco_server.gateway.key_ring import KeyRing, KeyRingMessage
from pyoco_server.gateway.read_model.rows import RunRow
from pyoco_server.gateway.read_side import ReadSide
from pyoco_server.gateway.reaper import Reaper, Sweep
from pyoco_server.gateway.submitter import Submitter
from pyoco_server.gateway.wheel_registry import WheelRegistry, WheelRegistryMessage
from pyoco_server.gateway.withdrawals import Withdrawals, Withdrawer
from pyoco_server.gateway.worker_keeper import LookAtWorkers, WorkerKeeper
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.kernel import ActorDown, ActorRef, ChildSpec, MailboxFull, SupervisorSpec
from pyoco_server.settings import Settings
from pyoco_server.store.artifacts import ArtifactStore
from pyoco_server.store.idempotency import IdempotencyStore
from pyoco_server.store.letters import LetterBox
from pyoco_server.store.queue import JobQueue
from pyoco_server.store.runs import RunStore
from pyoco_server.store.wheels import WheelStore
from pyoco_server.store.workflows import WorkflowStore

log = structlog.get_logger(__name__)

_WORKERS_LOOK_SECONDS = 600.0

GatewayKind: TypeAlias = Literal["whole", "client"]


@dataclass(frozen=True, eq=False)
class GatewayTree:
    """The spec of a gateway and the references that the backend uses.

    The key ring is None where calls need no API key. What only a whole gateway has is None in a client's.
    """

    spec: SupervisorSpec
    submitter: Submitter
    canceller: ActorRef[Cancel]
    events: EventReader
    workflows: WorkflowStore
    reads: ReadSide | None = None
    dead_letters: DeadLetterDesk | None = None
    key_ring: ActorRef[KeyRingMessage] | None = None
    wheel_registry: ActorRef[WheelRegistryMessage] | None = None


def gateway_tree(
    connection: Connection, settings: Settings, runs: RunStore, kind: GatewayKind = "whole"
) -> GatewayTree:
    """Put a gateway together; its actors do not depend on each other.

    A client submits, cancels and reads events. The rest of a whole gateway is what a system needs once at
    least, wherever it runs: lists and their read model, keys, dead letters, wheels, reaping and cleaning up.
    """
    keys = IdempotencyStore(KeyValue(connection, settings.idempotency_kv_bucket))
    queue = JobQueue.of(connection, settings)
    workflows = WorkflowStore(connection, settings.workflows_kv_bucket)
    withdrawals = Withdrawals()
    intake = Intake(
        connection, runs, workflows, withdrawals, subject_prefix=settings.work_subject_prefix
    )
    submitter = Submitter(intake, OnceOnly(keys, intake, withdrawals))
    withdrawer: ChildSpec[Never] = ChildSpec("withdrawer", lambda: Withdrawer(withdrawals))
    canceller: ChildSpec[Cancel] = ChildSpec(
        "canceller", lambda: Canceller(connection, runs, queue), mailbox_capacity=1024
    )
    events_from = (settings.events_stream, settings.events_subject_prefix)
    event_feeds: ChildSpec[FeedMessage] = ChildSpec(
        "event-feeds", lambda: EventFeeds(connection, runs, *events_from), mailbox_capacity=1024
    )
    client = GatewayTree(
        SupervisorSpec("gateway", [event_feeds, withdrawer, canceller]),
        submitter,
        canceller.ref,
        EventReader(connection, runs, *events_from, event_feeds.ref),
        workflows,
    )
    if kind == "client":
        return client

    event_keeper: ChildSpec[RunsGone] = ChildSpec(
        "event-keeper", lambda: EventKeeper(connection, runs, *events_from)
    )
    outlived = 0 < settings.runs_ttl_sec < (settings.events_max_age_sec or math.inf)
    also = partial(_tell, event_keeper.ref) if outlived else None
    reads = ReadSide(connection, settings, runs, also)
    reaper: ChildSpec[Sweep] = ChildSpec(
        "reaper", lambda: Reaper(connection, settings, reads.live, runs, reads)
    )
    key_ring: ChildSpec[KeyRingMessage] = ChildSpec(
        "key-ring",
        lambda: KeyRing(KeyValue(connection, settings.auth_kv_bucket), settings.auth_pepper),
        mailbox_capacity=1024,
    )
    wheel_registry: ChildSpec[WheelRegistryMessage] = ChildSpec(
        "wheel-registry",
        lambda: WheelRegistry(
            WheelStore(
                connection,
                settings.wheel_object_store_bucket,
                settings.wheel_history_kv_bucket,
            ),
            strict=settings.wheel_check == "strict",
            quota_bytes=settings.wheel_quota_bytes,
        ),
    )
    letters = LetterBox(connection, settings.dlq_stream, settings.dlq_subject_prefix)
    artifact_keeper: ChildSpec[ArtifactKeeperMessage] = ChildSpec(
        "artifact-keeper",
        lambda: ArtifactKeeper(
            ArtifactStore(connection, settings.artifacts_bucket),
            runs,
            max_age=settings.artifact_max_age_sec,
        ),
    )
    worker_keeper: ChildSpec[LookAtWorkers] = ChildSpec(
        "worker-keeper",
        lambda: WorkerKeeper(
            KeyValue(connection, settings.workers_kv_bucket),
            max_silence=settings.worker_record_ttl_sec,
            interval=_WORKERS_LOOK_SECONDS,
        ),
    )
    keyed = settings.http_auth_mode == "api_key"
    children = [
        *([key_ring] if keyed else []),
        reads.supervisor,
        *client.spec.children,
        reaper,
        wheel_registry,
        artifact_keeper,
        *([event_keeper] if outlived else []),
        *([worker_keeper] if settings.worker_record_ttl_sec else []),
    ]
    return replace(
        client,
        spec=SupervisorSpec("gateway", children),
        reads=reads,
        dead_letters=DeadLetterDesk(letters, runs, workflows, submitter),
        key_ring=key_ring.ref if keyed else None,
        wheel_registry=wheel_registry.ref,
    )


def _tell(keeper: ActorRef[RunsGone], removed: tuple[RunRow, ...]) -> None:
    gone = tuple(row.run_id for row in removed if row.status.terminal)
    try:
        keeper.try_tell(RunsGone(gone))
    except (MailboxFull, ActorDown) as error:
        log.info("events of removed runs are left to their age", reason=str(error))
