"""The gateway's part of the supervision tree."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeAlias

from pyoco_server.gateway.artifact_keeper import sweep_artifacts
from pyoco_server.gateway.canceller import Canceller, RecordCancel
from pyoco_server.gateway.dead_letter_desk import DeadLetterDesk
from pyoco_server.gateway.event_keeper import EventKeeper
from pyoco_server.gateway.event_reader import EventReader
from pyoco_server.gateway.idempotency import OnceOnly
from pyoco_server.gateway.intake import Intake
from pyoco_server.gateway.key_ring import KeyRing
from pyoco_server.gateway.late_letters import LateLetters
from pyoco_server.gateway.read_side import ReadSide
from pyoco_server.gateway.reaper import Reaper
from pyoco_server.gateway.schedules.alarm import Alarm
from pyoco_server.gateway.schedules.board import ScheduleBoard
from pyoco_server.gateway.schedules.clockwork import Scheduler
from pyoco_server.gateway.schedules.desk import ScheduleDesk
from pyoco_server.gateway.schedules.rounds import Rounds
from pyoco_server.gateway.schedules.runs import ScheduleRuns
from pyoco_server.gateway.schedules.text_keeper import sweep_texts
from pyoco_server.gateway.submitter import Submitter
from pyoco_server.gateway.sweeping import sweeper
from pyoco_server.gateway.timekeeper import Timekeeper
from pyoco_server.gateway.undertaker import Undertaker
from pyoco_server.gateway.wheel_registry import WheelRegistry
from pyoco_server.gateway.withdrawals import Withdrawals
from pyoco_server.gateway.worker_registry import sweep_workers
from pyoco_server.gateway.workflow_keeper import renew_workflows
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.kernel import ActorRef, ChildSpec, SupervisorSpec, task
from pyoco_server.settings import Settings
from pyoco_server.store.stores import Stores

# How often it is looked for what nobody needs any more.
_ARTIFACTS_SECONDS = 600.0
_WORKERS_SECONDS = 600.0
_TEXTS_SECONDS = 3600.0
_UPLOADS_SECONDS = 3600.0
_WORKFLOWS_SECONDS = 3600.0

GatewayKind: TypeAlias = Literal["whole", "client"]


@dataclass(frozen=True, eq=False)
class GatewayTree:
    """The spec of a gateway and the references that the backend uses.

    The key ring is None where calls need no API key. What only a whole gateway has is None in a client's.
    """

    spec: SupervisorSpec
    submitter: Submitter
    canceller: ActorRef[RecordCancel]
    events: EventReader
    reads: ReadSide | None = None
    dead_letters: DeadLetterDesk | None = None
    key_ring: KeyRing | None = None
    wheel_registry: WheelRegistry | None = None
    schedules: ScheduleDesk | None = None


def gateway_tree(
    connection: Connection, settings: Settings, stores: Stores, kind: GatewayKind = "whole"
) -> GatewayTree:
    """Put a gateway together; its actors do not depend on each other.

    A client submits, cancels and reads events. The rest of a whole gateway is what a system needs once at
    least, wherever it runs: lists and their read model, keys, dead letters, wheels, reaping and cleaning up.
    """
    runs, queue, workflows = stores.runs, stores.queue, stores.workflows
    withdrawals = Withdrawals()
    intake = Intake(connection, runs, workflows, withdrawals, queue)
    submitter = Submitter(intake, OnceOnly(stores.idempotency, intake, withdrawals))
    canceller: ChildSpec[RecordCancel] = ChildSpec(
        "canceller", lambda: Canceller(connection, runs, queue), mailbox_capacity=1024
    )
    events_from = (settings.events_stream, settings.events_subject_prefix)
    events = EventReader(connection, runs, *events_from)
    children: list[ChildSpec[Any] | SupervisorSpec] = [
        task("event-feeds", events.serve),
        task("withdrawer", withdrawals.carry_out),
        canceller,
    ]
    client = GatewayTree(SupervisorSpec("gateway", children), submitter, canceller.ref, events)
    if kind == "client":
        return client

    outlived = 0 < settings.runs_ttl_sec < (settings.events_max_age_sec or math.inf)
    event_keeper = EventKeeper(connection, runs, *events_from) if outlived else None
    reads = ReadSide(
        connection, settings, runs, None if event_keeper is None else event_keeper.on_removed
    )
    undertaker = Undertaker(runs, queue, stores.dead_letters)
    timekeeper = Timekeeper(reads.live, runs, queue, undertaker)
    reaper = Reaper(connection, settings, reads.live, runs, queue, undertaker, reads)
    wheel_registry = WheelRegistry(
        stores.wheels,
        strict=settings.wheel_check == "strict",
        quota_bytes=settings.wheel_quota_bytes,
    )
    store, texts = stores.schedules, stores.schedule_texts
    board = ScheduleBoard(store.bucket)
    schedule_runs = ScheduleRuns(
        submitter, runs, texts, canceller.ref, settings.workflow_yaml_max_bytes
    )
    alarm = Alarm(connection, board)
    rounds = Rounds(store, board, schedule_runs, alarm, reads.measures.ticks_settled)
    scheduler = Scheduler(connection, board, rounds, alarm)
    max_age = settings.artifact_max_age_sec
    old_artifacts = partial(sweep_artifacts, stores.artifacts, runs, max_age=max_age)
    old_texts = partial(sweep_texts, connection, store.bucket, board)
    renewed = partial(renew_workflows, reads, workflows)
    purge = partial(stores.wheels.purge_orphans, older_than_seconds=_UPLOADS_SECONDS)
    children = [
        reads.supervisor,
        *children,
        task("reaper", reaper.look, reaper.follow_advisories),
        task("timekeeper", timekeeper.keep),
        sweeper("wheel-registry", _UPLOADS_SECONDS, "left-overs of broken-off uploads", purge),
        sweeper("artifact-keeper", _ARTIFACTS_SECONDS, "artifacts", old_artifacts),
        task("scheduler", board.follow, scheduler.take, scheduler.keep_time),
        sweeper("schedule-text-keeper", _TEXTS_SECONDS, "texts of schedules", old_texts),
        sweeper(
            "workflow-keeper",
            _WORKFLOWS_SECONDS,
            "flow.yaml of runs that wait",
            renewed,
            "written again what would go before its runs",
        ),
    ]
    late = LateLetters(stores.dead_letters, reads, written=settings.dlq_publish_execution_error)
    key_ring = None
    if settings.http_auth_mode == "api_key":
        key_ring = KeyRing(KeyValue(connection, settings.auth_kv_bucket), settings.auth_pepper)
        following = task("key-ring", key_ring.follow, key_ring.compare, close=key_ring.close)
        children.insert(0, following)
    if event_keeper is not None:
        children.append(task("event-keeper", event_keeper.keep))
    if max_silence := settings.worker_record_ttl_sec:
        bucket = KeyValue(connection, settings.workers_kv_bucket)
        old_workers = partial(sweep_workers, bucket, max_silence=max_silence)
        children.append(sweeper("worker-keeper", _WORKERS_SECONDS, "worker records", old_workers))
    return replace(
        client,
        spec=SupervisorSpec("gateway", children),
        reads=reads,
        dead_letters=DeadLetterDesk(stores.dead_letters, runs, workflows, submitter, late),
        key_ring=key_ring,
        wheel_registry=wheel_registry,
        schedules=ScheduleDesk(
            store,
            board,
            rounds,
            alarm,
            schedule_runs,
            submitter,
            texts,
            settings.default_tag,
            settings.schedules_per_tenant,
        ),
    )
