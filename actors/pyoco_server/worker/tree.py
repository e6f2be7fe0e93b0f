"""The worker's part of the supervision tree."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.consumer import PullConsumer
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.jetstream.resources import ensure_consumer
from pyoco_server.kernel import ActorRef, ChildSpec, Intensity, Strategy, SupervisorSpec
from pyoco_server.settings import Settings
from pyoco_server.store.artifacts import ArtifactStore
from pyoco_server.store.dead_letters import DeadLetterOffice
from pyoco_server.store.journal import Journal
from pyoco_server.store.queue import JobQueue
from pyoco_server.store.runs import RunStore
from pyoco_server.store.wheels import WheelStore
from pyoco_server.worker.artifacts import ArtifactLimits, ArtifactSaver
from pyoco_server.worker.child import SlotChild
from pyoco_server.worker.claiming import Claimant
from pyoco_server.worker.control import ControlListener
from pyoco_server.worker.dispatcher import Dispatcher, DispatcherMessage, Queue
from pyoco_server.worker.events import AttemptEvents, OutputSink
from pyoco_server.worker.executor import ExecutionSettings, Executor
from pyoco_server.worker.heartbeat import Heartbeat, HeartbeatMessage, SlotBoard
from pyoco_server.worker.housekeeper import Housekeeper
from pyoco_server.worker.runner.handle import RunnerOptions
from pyoco_server.worker.runner.protocol import Limits
from pyoco_server.worker.settling import Settler
from pyoco_server.worker.slot import Slot, SlotMessage
from pyoco_server.worker.wheel_syncer import WheelSyncer, WheelSyncerMessage, wheel_folder

log = structlog.get_logger(__name__)

# To stop the child, and to store and tell what became of its run.
_SLOT_CLEANUP_SECONDS = 12.0


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """What one worker is.

    Attributes:
        tags: What it takes; the settings' default tag when empty.
        worker_id: Its name in the workers list; the host's name with a random part when None.
        slots: How many runs it executes at once; from the settings when None.
        flow_resolver: ``module:function`` or ``path/file.py:function`` that makes a flow of a name; None
            for a worker that takes only runs which bring their flow.yaml.
        import_paths: Folders that task code is imported from, besides what Python itself knows.
        env: Variables that task code finds, besides what Python itself needs.
        limit: How many jobs to take in all; no limit when None.
        output: Called with what tasks print and the slot's index, besides its being kept as events.
    """

    tags: tuple[str, ...] = ()
    worker_id: str | None = None
    slots: int | None = None
    flow_resolver: str | None = None
    import_paths: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    output: OutputSink | None = None


@dataclass(frozen=True, eq=False)
class WorkerTree:
    """The spec of a worker and the references that the backend uses."""

    spec: SupervisorSpec
    worker_id: str
    instance_id: str
    dispatcher: ActorRef[DispatcherMessage]
    slots: tuple[ActorRef[SlotMessage], ...]


def worker_tree(
    connection: Connection,
    settings: Settings,
    options: WorkerOptions,
    runs: RunStore,
    dead_letters: DeadLetterOffice,
    journal: Journal,
) -> WorkerTree:
    """Put a worker together: heartbeat, slots, control listener, dispatcher, started in that order."""
    instance_id = uuid.uuid4().hex
    worker_id = options.worker_id or f"{socket.gethostname()}-{instance_id[:8]}"
    tags = options.tags or (settings.default_tag,)
    count = options.slots or settings.worker_slots
    work_dir = Path(settings.state_dir).absolute() / "work"

    board = SlotBoard(count)
    heartbeat: ChildSpec[HeartbeatMessage] = ChildSpec(
        "heartbeat",
        lambda: Heartbeat(
            KeyValue(connection, settings.workers_kv_bucket),
            worker_id=worker_id,
            instance_id=instance_id,
            tags=tags,
            board=board,
            interval=settings.worker_heartbeat_interval_sec,
            wheel_sync=settings.wheel_sync_enabled,
            dispatcher=dispatcher.ref,
        ),
        mailbox_capacity=1024,
    )
    slots: list[ChildSpec[SlotMessage]] = []
    dispatcher: ChildSpec[DispatcherMessage] = ChildSpec(
        "dispatcher",
        lambda: Dispatcher(
            [_queue(connection, settings, tag) for tag in tags],
            [slot.ref for slot in slots],
            runs,
            dead_letters,
            heartbeat=heartbeat.ref,
            worker_id=worker_id,
            limit=options.limit,
        ),
        mailbox_capacity=1024,
    )
    runner = RunnerOptions(
        flow_resolver=options.flow_resolver,
        extra_sys_path=options.import_paths,
        env=dict(options.env),
        limits=Limits(
            workflow_bytes=settings.workflow_yaml_max_bytes,
            output_characters=settings.events_run_max_bytes,
        ),
    )

    settler = Settler(
        JobQueue.of(connection, settings),
        dead_letters,
        worker_id=worker_id,
        bury_errors=settings.dlq_publish_execution_error,
        max_deliver=settings.consumer_max_deliver,
    )

    syncer: ChildSpec[WheelSyncerMessage] = ChildSpec(
        "wheel-syncer",
        lambda: WheelSyncer(
            WheelStore(
                connection, settings.wheel_object_store_bucket, settings.wheel_history_kv_bucket
            ),
            wheel_folder(settings.wheel_sync_dir),
            tags=tags,
            interval=settings.wheel_sync_interval_sec,
            install_timeout=settings.wheel_install_timeout_sec,
            slots=[slot.ref for slot in slots],
            heartbeat=heartbeat.ref,
        ),
    )
    syncing = settings.wheel_sync_enabled

    artifact_limits = ArtifactLimits(
        file_bytes=settings.artifact_max_bytes,
        run_bytes=settings.artifact_run_max_bytes,
        count=settings.artifact_max_count,
        snapshot_bytes=settings.max_run_snapshot_bytes,
    )
    artifacts = ArtifactStore(connection, settings.artifacts_bucket)

    def slot(index: int) -> Slot:
        execution = ExecutionSettings(
            claimant=Claimant(worker_id, instance_id, index),
            work_dir=work_dir,
            ack_progress_interval=settings.ack_progress_interval,
            heartbeat_interval=settings.run_heartbeat_interval_sec,
            cancel_grace_period=settings.cancel_grace_period_sec,
            max_backoff=settings.retry_backoff_max_sec,
        )
        child = SlotChild(runner, execution.folder)
        events = AttemptEvents(journal, index, settings.events_run_max_bytes, output=options.output)
        executor = Executor(
            execution,
            child,
            board,
            runs=runs,
            settler=settler,
            artifacts=ArtifactSaver(artifacts, connection, artifact_limits),
            events=events,
            connection=connection,
        )
        return Slot(
            index,
            child,
            executor,
            settler,
            events=events,
            board=board,
            dispatcher=dispatcher.ref,
            wheels=syncer.ref if syncing else None,
        )

    slots += [
        ChildSpec(str(index), partial(slot, index), cleanup_seconds=_SLOT_CLEANUP_SECONDS)
        for index in range(count)
    ]
    control: ChildSpec[Any] = ChildSpec(
        "control",
        lambda: ControlListener(
            connection, instance_id, [each.ref for each in slots], heartbeat.ref, journal
        ),
    )
    spec = SupervisorSpec(
        "worker",
        [
            ChildSpec("housekeeper", lambda: Housekeeper(work_dir, instance_id)),
            heartbeat,
            SupervisorSpec(
                "slots", slots, intensity=Intensity(restarts=10 * count), stop_together=True
            ),
            control,
            dispatcher,
            # Last: nothing depends on its state, so that its restart costs no run.
            *([syncer] if syncing else []),
        ],
        strategy=Strategy.REST_FOR_ONE,
    )
    return WorkerTree(
        spec, worker_id, instance_id, dispatcher.ref, tuple(each.ref for each in slots)
    )


def _queue(connection: Connection, settings: Settings, tag: str) -> Queue:
    async def ensure() -> None:
        await ensure_consumer(connection, settings, tag)

    durable = f"{settings.consumer_prefix}_{tag}"
    return Queue(tag, PullConsumer(connection, settings.work_stream, durable), ensure)
