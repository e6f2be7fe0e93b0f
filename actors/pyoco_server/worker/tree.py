"""The worker's part of the supervision tree."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pyoco_server.jetstream.connection import Connection
from pyoco_server.kernel import ActorRef, ChildSpec, Intensity, Strategy, SupervisorSpec
from pyoco_server.settings import Settings
from pyoco_server.settings.readers import cores
from pyoco_server.store.stores import Stores
from pyoco_server.worker.child import SlotChild
from pyoco_server.worker.claiming import Claimant
from pyoco_server.worker.control import ControlListener
from pyoco_server.worker.control_group import WorkerGroup
from pyoco_server.worker.dispatcher import Dispatcher, DispatcherMessage, Taken
from pyoco_server.worker.events import AttemptEvents, OutputSink
from pyoco_server.worker.executor import Executor
from pyoco_server.worker.heartbeat import Heartbeat, HeartbeatMessage
from pyoco_server.worker.housekeeper import Housekeeper
from pyoco_server.worker.identity import WorkerName
from pyoco_server.worker.messages import CurrentWheels
from pyoco_server.worker.runner.guarded import Guardian
from pyoco_server.worker.runner.kin import marks_of
from pyoco_server.worker.runner.options import RunnerOptions
from pyoco_server.worker.runner.protocol import Limits
from pyoco_server.worker.runner.task_user import TaskUser
from pyoco_server.worker.settling import Settler
from pyoco_server.worker.slot import Slot, SlotMessage
from pyoco_server.worker.slot_board import SlotBoard
from pyoco_server.worker.spare import SpareChild
from pyoco_server.worker.wheel_syncer import WheelSyncer

# To stop the child, and to store and tell what became of its run.
_SLOT_CLEANUP_SECONDS = 12.0


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """What one worker is.

    Attributes:
        tags: What it takes; the settings' default tag when empty.
        worker_id: Its name in the workers list; when None the host's name with a part that is kept in the
            state folder.
        replace: Whether it takes the place of a process that lives and has that name, once that one has
            ended its runs and stopped.
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
    replace: bool = False
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
    name: WorkerName
    instance_id: str
    dispatcher: ActorRef[DispatcherMessage]
    slots: tuple[ActorRef[SlotMessage], ...]


def worker_tree(
    connection: Connection,
    settings: Settings,
    options: WorkerOptions,
    stores: Stores,
) -> WorkerTree:
    """Put a worker together: heartbeat, slots, control listener, dispatcher, started in that order.

    Raises:
        OSError: The state folder, where a part of its name is kept, cannot be used.
    """
    instance_id = uuid.uuid4().hex
    state_dir = Path(settings.state_dir).absolute()
    name = WorkerName.of(options.worker_id or None, state_dir / "workers", replace=options.replace)
    worker_id = name.worker_id
    tags = options.tags or (settings.default_tag,)
    count = options.slots or settings.worker_slots
    work_dir = state_dir / "work"

    board, taken = SlotBoard(count), Taken()
    heartbeat: ChildSpec[HeartbeatMessage] = ChildSpec(
        "heartbeat",
        lambda: Heartbeat(
            connection,
            settings,
            name=name,
            instance_id=instance_id,
            tags=tags,
            board=board,
            dispatcher=dispatcher.ref,
        ),
        mailbox_capacity=1024,
    )
    slots: list[ChildSpec[SlotMessage]] = []
    dispatcher: ChildSpec[DispatcherMessage] = ChildSpec(
        "dispatcher",
        lambda: Dispatcher(
            connection,
            settings,
            tags,
            [slot.ref for slot in slots],
            stores,
            heartbeat=heartbeat.ref,
            worker_id=worker_id,
            taken=taken,
            limit=options.limit,
        ),
        mailbox_capacity=1024 + 16 * count,
    )
    syncer: ChildSpec[CurrentWheels] = ChildSpec(
        "wheel-syncer",
        lambda: WheelSyncer(
            stores.wheels,
            settings,
            tags,
            slots=[slot.ref for slot in slots],
            heartbeat=heartbeat.ref,
        ),
    )
    syncing = settings.wheel_sync_enabled
    runner = RunnerOptions(
        flow_resolver=options.flow_resolver,
        extra_sys_path=options.import_paths,
        env=dict(options.env),
        user=TaskUser.named(task_user) if (task_user := settings.worker_task_user) else None,
        limits=Limits(
            workflow_bytes=settings.workflow_yaml_max_bytes,
            output_characters=settings.events_run_max_bytes,
            snapshot_bytes=settings.max_run_snapshot_bytes,
            result_bytes=settings.result_max_bytes,
            results_bytes=settings.artifact_run_max_bytes,
            callables=settings.flow_callables,
            import_seconds=settings.worker_import_timeout_sec,
            parallel_tasks=settings.worker_parallel_tasks or max(8, 4 * cores()),
        ),
    )
    guardian = Guardian(runner.python, runner.variables, marks=marks_of(instance_id))
    spare = SpareChild(guardian)
    settler = Settler(stores.queue, stores.dead_letters, settings, worker_id)

    groups = WorkerGroup.of(settings.worker_cgroup, count)
    names = [f"{instance_id}-{index}" for index in range(count)]
    group_of = [None if groups is None else groups.slot(name) for name in names]

    def slot(index: int) -> Slot:
        folder = work_dir / instance_id / str(index)
        child = SlotChild(runner, folder, spare, group_of[index])
        events = AttemptEvents(
            stores.journal, index, settings.events_run_max_bytes, output=options.output
        )
        executor = Executor(
            settings,
            Claimant(worker_id, instance_id, index),
            child,
            board,
            stores,
            connection,
            settler=settler,
            events=events,
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
            connection, instance_id, [each.ref for each in slots], heartbeat.ref, stores.journal
        ),
    )
    spec = SupervisorSpec(
        "worker",
        [
            ChildSpec(
                "housekeeper",
                lambda: Housekeeper(work_dir, instance_id, guardian, groups, spare),
            ),
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
    return WorkerTree(spec, name, instance_id, dispatcher.ref, tuple(each.ref for each in slots))
