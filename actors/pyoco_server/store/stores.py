"""What an installation keeps in NATS, each of it in a store of its own, made here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.settings import Settings
from pyoco_server.store.artifacts import ArtifactStore
from pyoco_server.store.dead_letters import DeadLetterStore
from pyoco_server.store.idempotency import IdempotencyStore
from pyoco_server.store.journal import Journal
from pyoco_server.store.queue import JobQueue
from pyoco_server.store.runs import RunStore
from pyoco_server.store.schedules import ScheduleStore
from pyoco_server.store.wheels import WheelStore
from pyoco_server.store.workflows import WorkflowStore


@dataclass(frozen=True, eq=False)
class Stores:
    """The stores that settings name.

    Attributes:
        journal: What happened in runs and is not stored as events yet.
        schedule_texts: The flow.yaml texts of schedules, kept for as long as these.
    """

    journal: Journal
    runs: RunStore
    queue: JobQueue
    dead_letters: DeadLetterStore
    workflows: WorkflowStore
    idempotency: IdempotencyStore
    artifacts: ArtifactStore
    wheels: WheelStore
    schedules: ScheduleStore
    schedule_texts: WorkflowStore

    @classmethod
    def of(cls, connection: Connection, settings: Settings) -> Stores:
        """Those over one connection; nothing is asked of it yet."""

        def bucket(name: str) -> KeyValue:
            return KeyValue(connection, name)

        journal = Journal(max_message_bytes=settings.events_max_message_bytes)
        return cls(
            journal,
            RunStore(
                bucket(settings.runs_kv_bucket),
                max_bytes=settings.max_run_snapshot_bytes,
                ttl_seconds=settings.runs_ttl_sec,
                journal=journal,
            ),
            JobQueue(connection, settings),
            DeadLetterStore(connection, settings.dlq_stream, settings.dlq_subject_prefix),
            WorkflowStore(connection, settings.workflows_kv_bucket),
            IdempotencyStore(bucket(settings.idempotency_kv_bucket)),
            ArtifactStore(connection, settings.artifacts_bucket),
            WheelStore(
                connection, settings.wheel_object_store_bucket, settings.wheel_history_kv_bucket
            ),
            ScheduleStore(bucket(settings.schedules_kv_bucket)),
            WorkflowStore(connection, settings.schedules_kv_bucket),
        )
