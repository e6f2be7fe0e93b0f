"""How the installation is: health, the supervision tree of this gateway, queues, what happened lately."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version

from msgspec import UNSET, convert
from msgspec.structs import replace
from quart import Blueprint

from pyoco_http.access import Access, access, principal
from pyoco_http.call import Answer, asked
from pyoco_http.operation import described
from pyoco_http.query import refused
from pyoco_http.short_routes import short
from pyoco_http.sight import tags_seen
from pyoco_server.api.system import (
    MOST_STEPS,
    ActorNode,
    ActorTree,
    Health,
    NatsHealth,
    Queue,
    Queues,
    ReadyAnswer,
    Stats,
    StatsQuery,
    WaitingReason,
    Whoami,
)
from pyoco_server.backend import Backend
from pyoco_server.kernel import TreeNode
from pyoco_server.model.api_key import Role
from pyoco_server.model.worker import WorkerRecord


def system_blueprint(backend: Backend) -> Blueprint:
    """`GET /health`, `/health/ready`, `/whoami`, `/actors`, `/queues` and `/stats`."""
    blueprint = Blueprint("system", __name__)
    reads = backend.reads
    ours = version("pyoco-server")

    @blueprint.get("/health")
    @access(Access.PUBLIC)
    @described("Whether the process is alive", Health)
    @short
    async def health() -> Answer:
        return Answer(b'{"status":"ok"}')

    @blueprint.get("/health/ready")
    @access(Access.PUBLIC)
    @described(
        "Whether it can do its work, and what stands in the way",
        ReadyAnswer,
        refusals={503: "not ready"},
        bodies={503: {"application/json": ReadyAnswer}},
    )
    async def ready() -> tuple[ReadyAnswer, int]:
        readiness = await backend.readiness()
        body = ReadyAnswer(
            status="ready" if readiness.ready else "not ready",
            reasons=list(readiness.reasons),
            nats=convert(backend.connection.status, NatsHealth, from_attributes=True),
        )
        return body, 200 if readiness.ready else 503

    @blueprint.get("/whoami")
    @access(Access.READ)
    @described("Whose the key of the call is, and what it may do", Whoami)
    async def whoami() -> Whoami:
        by = principal()
        roles = [role for role in Role if role in by.roles]
        return Whoami(tenant_id=by.tenant_id, key_id=by.key_id, roles=roles, version=ours)

    @blueprint.get("/actors")
    @access(Access.OPERATE)
    @described("The supervision tree", ActorTree)
    async def actors() -> ActorTree:
        return ActorTree(tree=_node(backend.system.tree()))

    @blueprint.get("/queues")
    @access(Access.READ)
    @described("The queues of all tags", Queues)
    async def queues() -> Queues:
        overview, tags = await reads.overview(), await tags_seen(backend)
        workers = [record for record, state in await reads.workers() if state.active]
        seen = [
            replace(queue, waiting_reason=_waiting_reason(queue, workers))
            for queue in overview.queues
            if tags is None or queue.tag in tags
        ]
        return Queues(queues=seen, dead_letters=overview.dead_letters)

    @blueprint.get("/stats")
    @access(Access.READ)
    @described("What happened in each of the last minutes", Stats, query=StatsQuery)
    async def stats() -> Stats:
        query, tenant = asked(StatsQuery), principal().tenant_id
        count, step = query.minutes, query.step_minutes
        if count > MOST_STEPS * step:
            takes = f"takes at least {-(-count // MOST_STEPS)} for so many minutes"
            raise refused(StatsQuery, "step_minutes", takes)
        minutes = await reads.minutes(tenant, count, step)
        if not query.percentiles:
            return Stats(minutes=minutes)
        whole, steps = await reads.durations(tenant, count, step)
        minutes = [replace(minute, **steps.get(minute.start // 60, {})) for minute in minutes]
        return Stats(minutes=minutes, percentiles=whole)

    return blueprint


def _waiting_reason(queue: Queue, workers: Iterable[WorkerRecord]) -> WaitingReason | None:
    """Why the jobs of a queue wait; ``workers`` are those that are there."""
    if not queue.pending or queue.waiting_pulls:
        return None
    paused = [worker.paused or worker.draining for worker in workers if queue.tag in worker.tags]
    if not paused:
        return WaitingReason.NO_WORKER
    return WaitingReason.PAUSED if all(paused) else WaitingReason.BUSY


def _node(node: TreeNode) -> ActorNode:
    mailbox, work = node.mailbox, node.work
    average = None if work is None or not work.messages else work.busy_seconds / work.messages
    return ActorNode(
        path=node.path,
        kind=node.kind,
        state=node.state.value,
        incarnation=node.incarnation,
        restarts=node.restarts,
        up_seconds=node.up_seconds,
        last_error=node.last_error,
        last_error_age_seconds=node.last_error_age_seconds,
        strategy=node.kind if mailbox is None else UNSET,
        mailbox_depth=UNSET if mailbox is None else mailbox.depth,
        mailbox_capacity=UNSET if mailbox is None else mailbox.capacity,
        waiting_senders=UNSET if mailbox is None else mailbox.waiting_senders,
        messages=UNSET if work is None else work.messages,
        refusals=UNSET if work is None else work.refusals,
        busy_seconds=UNSET if work is None else work.busy_seconds,
        seconds_per_message=UNSET if work is None else average,
        longest_seconds=UNSET if work is None else work.longest_seconds,
        children=[_node(child) for child in node.children],
    )
