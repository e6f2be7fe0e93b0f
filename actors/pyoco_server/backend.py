"""The whole backend inside any trio program: which actors stand in which tree, and typed calls to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import trio

from pyoco_server.gateway.bulk import submit_all
from pyoco_server.gateway.canceller import Cancel
from pyoco_server.gateway.dead_letter_desk import DeskMessage
from pyoco_server.gateway.event_reader import EventReader
from pyoco_server.gateway.key_ring import Authenticate, KeysRead, Standing
from pyoco_server.gateway.read_side import ReadSide
from pyoco_server.gateway.run_states import run_states
from pyoco_server.gateway.submitter import Accepted, NewRun, Submit
from pyoco_server.gateway.tree import GatewayTree, gateway_tree
from pyoco_server.gateway.wheel_registry import DeleteWheel, UploadWheel
from pyoco_server.jetstream.connection import Connection, ConnectionOptions, open_connection
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.kernel import (
    ActorDown,
    ActorRef,
    ActorSystem,
    AskExpired,
    ChildSpec,
    Strategy,
    SupervisorSpec,
    open_system,
)
from pyoco_server.model.run import RunSnapshot
from pyoco_server.model.worker import WorkerRecord
from pyoco_server.node import Node, open_node
from pyoco_server.settings import Settings
from pyoco_server.store.artifacts import ArtifactStore
from pyoco_server.store.dead_letters import DeadLetterOffice
from pyoco_server.store.journal import EventWriter, Journal, Written
from pyoco_server.store.provisioner import Provisioned, Provisioner, ProvisionerMessage
from pyoco_server.store.runs import RunStore
from pyoco_server.store.wheels import WheelStore
from pyoco_server.store.workflows import WorkflowStore
from pyoco_server.worker.messages import Drain, DrainOrdered, FirstJob, Refresh
from pyoco_server.worker.tree import WorkerOptions, WorkerTree, worker_tree

# Longer than the actors' own limits for NATS, so that their refusal comes before the asker gives up.
_ASK_SECONDS = 15.0
_QUICK_ASK_SECONDS = 2.0
_LOOK_SECONDS = 0.02


@dataclass(frozen=True)
class Readiness:
    """Whether the backend can do its work now, and what stands in the way."""

    ready: bool
    reasons: tuple[str, ...]


class NotReady(Exception):
    """The backend did not become ready in time; the text says what stands in the way."""


class Backend:
    """A running backend; made by `open_backend`.

    Attributes:
        settings: What it runs with.
        connection: The way to NATS.
        system: The supervision tree.
        node: The embedded NATS node, if it has one.
        wheels: The wheel registry, to read from; `wheel_registry` changes it.
        artifacts: What runs saved.
    """

    def __init__(
        self,
        settings: Settings,
        connection: Connection,
        system: ActorSystem,
        runs: RunStore,
        provisioner: ChildSpec[ProvisionerMessage],
        gateway: GatewayTree | None,
        worker: WorkerTree | None,
        node: Node | None,
    ) -> None:
        self.settings = settings
        self.connection = connection
        self.system = system
        self.node = node
        self.wheels = WheelStore(
            connection, settings.wheel_object_store_bucket, settings.wheel_history_kv_bucket
        )
        self.artifacts = ArtifactStore(connection, settings.artifacts_bucket)
        self._runs = runs
        self._provisioner = provisioner.ref
        self._gateway = gateway
        self._worker = worker

    @property
    def reads(self) -> ReadSide:
        """Lists, counts, workers, queues, and feeds of changes."""
        return self._require_gateway().reads

    # Runs ----------------------------------------------------------------------------------------

    async def submit(self, run: NewRun) -> Accepted:
        """Accept a run: its snapshot is stored and its job queued when this returns.

        Raises:
            NotAccepted: NATS is not there, or did not answer; nothing was accepted.
            RunTooLarge: The run does not fit.
            KeyReused: Its idempotency key stands for another run.
        """
        return await self._require_gateway().submitter.ask(Submit(run), within=_ASK_SECONDS)

    async def submit_all(self, runs: Sequence[NewRun]) -> list[Accepted | Exception]:
        """Submit many runs, pipelined; return for each what `submit` would have returned or raised."""
        return await submit_all(self._require_gateway().submitter, runs, within=_ASK_SECONDS)

    async def get(self, run_id: str) -> RunSnapshot:
        """Read a run as it is stored now.

        Raises:
            RunNotFound: There is none with this id.
            BridgeError: NATS could not be asked.
        """
        return (await self._runs.get(run_id)).snapshot

    async def cancel(
        self, run_id: str, *, by: str | None = None, reason: str | None = None
    ) -> RunSnapshot:
        """Cancel a run; the answer is CANCELLING, or terminal where it had ended already.

        Raises:
            RunNotFound: There is none with this id.
            CancelNotStored: NATS could not be asked.
        """
        return await self._require_gateway().canceller.ask(
            Cancel(run_id, by=by, reason=reason), within=_ASK_SECONDS
        )

    @asynccontextmanager
    async def watch(self, run_id: str) -> AsyncIterator[AsyncIterator[RunSnapshot]]:
        """Follow a run: its state now and each one after, newest only for a slow reader.

        The iterator ends when the run was deleted. It goes on after the terminal state, which the
        caller knows by `RunStatus.terminal`. Whoever cancels a wait for the next state loses none.

        Raises:
            RunNotFound: There is none with this id.
            BridgeError: NATS could not be asked.
        """
        async with run_states(self.reads, self._runs, run_id) as states:
            yield states

    async def worker(self, worker_id: str) -> WorkerRecord | None:
        """The last known record of a worker, None where there is none."""
        return await self.reads.worker(worker_id)

    async def authenticate(self, api_key: str) -> Standing:
        """Check an API key; return who calls with it, and when that ends.

        Raises:
            InvalidApiKey: It is no key, or not any more.
            KeysUnavailable: The keys could not be read lately.
            TooManyChecks: Too many other keys are being checked.
        """
        key_ring = self._require_gateway().key_ring
        if key_ring is None:
            raise RuntimeError("PYOCO_HTTP_AUTH_MODE is none: there are no keys to check")
        return await key_ring.ask(Authenticate(api_key), within=_ASK_SECONDS)

    @property
    def events(self) -> EventReader:
        """The events of runs, stored and coming."""
        return self._require_gateway().events

    @property
    def dead_letters(self) -> ActorRef[DeskMessage]:
        """Who sees to dead letters and repeats runs."""
        return self._require_gateway().dead_letters

    @property
    def workflows(self) -> WorkflowStore:
        """The flow.yaml texts that runs brought."""
        return self._require_gateway().workflows

    @property
    def wheel_registry(self) -> ActorRef[UploadWheel | DeleteWheel]:
        """Takes wheels in and out."""
        return self._require_gateway().wheel_registry

    # This process's own worker ---------------------------------------------------------------------

    @property
    def worker_id(self) -> str | None:
        """The id of the worker that runs in this backend, if one does."""
        return None if self._worker is None else self._worker.worker_id

    async def first_job(self) -> None:
        """Wait until the worker of this backend has taken a job."""
        await self._require_worker().dispatcher.ask(FirstJob(), within=float("inf"))

    async def drain_ordered(self) -> None:
        """Wait until an operator has told the worker of this backend to drain."""
        await self._require_worker().dispatcher.ask(DrainOrdered(), within=float("inf"))

    async def drain(self, *, within: float) -> bool:
        """Let the worker take no more jobs; return whether its slots got free within so many seconds."""
        try:
            await self._require_worker().dispatcher.ask(Drain(), within=within)
        except (AskExpired, ActorDown):
            return False
        return True

    async def refresh_slots(self) -> None:
        """Give each slot a fresh child before its next run, because task code changed."""
        for slot in self._require_worker().slots:
            await slot.tell(Refresh())

    # State -----------------------------------------------------------------------------------------

    async def readiness(self) -> Readiness:
        """Look at everything that has to stand before work can be done; answers within seconds."""
        reasons: list[str] = []
        status = self.connection.status
        if not status.connected:
            reasons.append(f"NATS is not connected: {status.last_error or 'connecting'}")
        try:
            missing = await self._provisioner.ask(Provisioned(), within=_QUICK_ASK_SECONDS)
            if missing is not None:
                reasons.append(missing)
            if self._gateway is not None:
                reasons += await self.reads.obstacles()
            key_ring = None if self._gateway is None else self._gateway.key_ring
            if key_ring is not None and not await key_ring.ask(
                KeysRead(), within=_QUICK_ASK_SECONDS
            ):
                reasons.append("the API keys could not be read lately")
        except (AskExpired, ActorDown) as error:
            reasons.append(str(error))
        return Readiness(not reasons, tuple(reasons))

    async def wait_ready(self, *, within: float) -> None:
        """Wait until `readiness` says so.

        Raises:
            NotReady: It did not within so many seconds; the text says what is missing.
        """
        readiness = Readiness(ready=False, reasons=("it was not looked at in time",))
        with trio.move_on_after(within):
            # Several things make up readiness; nothing announces all of them.
            while not (readiness := await self.readiness()).ready:  # noqa: ASYNC110
                await trio.sleep(_LOOK_SECONDS)
            return
        raise NotReady("; ".join(readiness.reasons))

    def settings_with_node(self) -> Settings:
        """The settings, with the URL of the NATS that is in fact used; for a further backend."""
        return self.settings if self.node is None else self.settings.for_node(self.node.url)

    def _require_gateway(self) -> GatewayTree:
        if self._gateway is None:
            raise RuntimeError(
                "this backend was opened without a gateway: open_backend(gateway=True)"
            )
        return self._gateway

    def _require_worker(self) -> WorkerTree:
        if self._worker is None:
            raise RuntimeError(
                "this backend was opened without a worker: open_backend(worker=WorkerOptions(…))"
            )
        return self._worker


@asynccontextmanager
async def open_backend(
    settings: Settings,
    *,
    nats: Literal["embedded"] | None = None,
    gateway: bool = True,
    worker: WorkerOptions | None = None,
    name: str = "pyoco-server",
) -> AsyncIterator[Backend]:
    """Run the backend for the length of the block, in one supervision tree.

    It comes up whether NATS is there or not; `Backend.wait_ready` waits for it. When the block is
    left, the worker stops taking jobs, lets running ones end for ``worker_drain_timeout_sec`` seconds,
    and gives back the rest. Cancelled, it does not wait for running jobs.

    Args:
        settings: What to run with.
        nats: "embedded" starts a NATS node of its own under ``settings.state_dir``, on a free port;
            None connects to ``settings.nats_url``.
        gateway: Whether runs can be submitted, watched and cancelled here.
        worker: The worker to run here, if any.
        name: How the connection calls itself towards NATS.

    Raises:
        ExceptionGroup: Something inside failed for good; the block is cancelled then.
    """
    async with AsyncExitStack() as stack:
        node = None
        reached = settings
        if nats == "embedded":
            store = Path(settings.state_dir) / "nats"
            node = await stack.enter_async_context(open_node(store_dir=store, port=0))
            reached = settings.for_node(node.url)
        options = ConnectionOptions.of(reached, name=name)
        connection = await stack.enter_async_context(open_connection(options))
        journal = Journal(max_message_bytes=settings.events_max_message_bytes)
        runs = RunStore(
            KeyValue(connection, settings.runs_kv_bucket),
            max_bytes=settings.max_run_snapshot_bytes,
            ttl_seconds=settings.runs_ttl_sec,
            journal=journal,
        )
        dead_letters = DeadLetterOffice(connection, settings.dlq_subject_prefix)
        provisioner: ChildSpec[ProvisionerMessage] = ChildSpec(
            "provisioner", lambda: Provisioner(connection, settings)
        )
        events: ChildSpec[Written] = ChildSpec(
            "events",
            lambda: EventWriter(connection, journal, settings.events_subject_prefix),
        )
        gateway_part = gateway_tree(connection, settings, runs) if gateway else None
        worker_part = (
            worker_tree(connection, settings, worker, runs, dead_letters, journal)
            if worker
            else None
        )
        parts = [part.spec for part in (gateway_part, worker_part) if part is not None]
        root = SupervisorSpec("root", [provisioner, events, *parts], strategy=Strategy.ONE_FOR_ONE)
        system = await stack.enter_async_context(open_system(root))
        backend = Backend(
            settings, connection, system, runs, provisioner, gateway_part, worker_part, node
        )
        yield backend
        if worker_part is not None:
            await backend.drain(within=settings.worker_drain_timeout_sec)
