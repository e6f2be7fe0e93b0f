"""The gateway's part of the supervision tree."""

from __future__ import annotations

from dataclasses import dataclass

from pyoco_server.gateway.canceller import Cancel, Canceller
from pyoco_server.gateway.projector import Projector, ProjectorMessage
from pyoco_server.gateway.submitter import Submit, Submitter
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.kernel import ActorRef, ChildSpec, SupervisorSpec
from pyoco_server.settings import Settings
from pyoco_server.store.runs import RunStore
from pyoco_server.store.workflows import WorkflowStore


@dataclass(frozen=True, eq=False)
class GatewayTree:
    """The spec of a gateway and the references that the backend uses."""

    spec: SupervisorSpec
    submitter: ActorRef[Submit]
    canceller: ActorRef[Cancel]
    projector: ActorRef[ProjectorMessage]


def gateway_tree(connection: Connection, settings: Settings, runs: RunStore) -> GatewayTree:
    """Put a gateway together; its actors do not depend on each other."""
    workflows = WorkflowStore(connection, settings.workflows_kv_bucket)
    projector: ChildSpec[ProjectorMessage] = ChildSpec(
        "projector",
        lambda: Projector(
            KeyValue(connection, settings.runs_kv_bucket),
            KeyValue(connection, settings.workers_kv_bucket),
        ),
        mailbox_capacity=1024,
    )
    submitter: ChildSpec[Submit] = ChildSpec(
        "submitter",
        lambda: Submitter(
            connection,
            runs,
            workflows,
            subject_prefix=settings.work_subject_prefix,
            max_snapshot_bytes=settings.max_run_snapshot_bytes,
        ),
        mailbox_capacity=1024,
    )
    canceller: ChildSpec[Cancel] = ChildSpec(
        "canceller", lambda: Canceller(connection, runs), mailbox_capacity=1024
    )
    return GatewayTree(
        SupervisorSpec("gateway", [projector, submitter, canceller]),
        submitter.ref,
        canceller.ref,
        projector.ref,
    )
