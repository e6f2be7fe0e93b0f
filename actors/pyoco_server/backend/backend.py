"""A running backend: typed calls to its actors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import trio

from pyoco_server.backend.following import printed
from pyoco_server.gateway.canceller import RecordCancel
from pyoco_server.gateway.dead_letter_desk import DeadLetterDesk
from pyoco_server.gateway.event_reader import EventReader
from pyoco_server.gateway.key_ring import Standing
from pyoco_server.gateway.new_run import Accepted, NewRun
from pyoco_server.gateway.read_side import ReadSide
from pyoco_server.gateway.schedules.desk import ScheduleDesk
from pyoco_server.gateway.tree import GatewayTree
from pyoco_server.gateway.waiting_runs import move_run
from pyoco_server.gateway.wheel_registry import WheelRegistry
from pyoco_server.jetstream.connection import Connection
from pyoco_server.kernel import ActorSystem
from pyoco_server.model.event import LogChunk
from pyoco_server.model.run import RunSnapshot
from pyoco_server.model.timing import Timing
from pyoco_server.model.worker import WorkerRecord
from pyoco_server.node import Node
from pyoco_server.settings import Settings
from pyoco_server.store.provisioner import Provisioner
from pyoco_server.store.runs import RunNotFound
from pyoco_server.store.stores import Stores
from pyoco_server.worker.messages import Drain, DrainOrdered, FirstJob, Refresh, Started

if TYPE_CHECKING:
    from pyoco_server.worker.identity import WorkerIdTaken
    from pyoco_server.worker.tree import WorkerTree

T = TypeVar("T")

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
        workflows: The flow.yaml texts that runs brought.
    """

    def __init__(
        self,
        settings: Settings,
        connection: Connection,
        system: ActorSystem,
        stores: Stores,
        provisioner: Provisioner,
        gateway: GatewayTree | None,
        worker: WorkerTree | None,
        node: Node | None,
    ) -> None:
        self.settings = settings
        self.connection = connection
        self.system = system
        self.node = node
        self.wheels = stores.wheels
        self.artifacts = stores.artifacts
        self.workflows = stores.workflows
        self._runs = stores.runs
        self._queue = stores.queue
        self._provisioner = provisioner
        self._gateway = gateway
        self._worker = worker
        self._was_ready = False

    @property
    def reads(self) -> ReadSide:
        """Lists, counts, workers, queues, and feeds of changes."""
        return _whole(self._require_gateway().reads)

    # Runs ----------------------------------------------------------------------------------------

    async def submit(self, run: NewRun) -> Accepted:
        """Accept a run: its snapshot is stored and its job queued when this returns.

        Raises:
            NotAccepted: NATS is not there, or did not answer; nothing was accepted.
            RunTooLarge: The run does not fit.
            KeyReused: Its idempotency key stands for another run.
        """
        submitter = self._require_gateway().submitter
        return await submitter.submit(run, within=await self._reached())

    async def submit_all(self, runs: Sequence[NewRun]) -> list[Accepted | Exception]:
        """Submit many runs, in batches; return for each what `submit` would have returned or raised."""
        submitter = self._require_gateway().submitter
        return await submitter.submit_all(runs, within=await self._reached())

    async def get(self, run_id: str) -> RunSnapshot:
        """Read a run: at least as new as anything that this backend has told of it, and as it has written.

        A whole gateway answers from what it follows, where it can: what others changed some milliseconds ago
        may not be in it yet.

        Raises:
            RunNotFound: There is none with this id.
            BridgeError: NATS could not be asked.
        """
        await self._reached()
        reads = None if self._gateway is None else self._gateway.reads
        return (await (self._runs if reads is None else reads.seen).get(run_id)).snapshot

    async def cancel(
        self, run_id: str, *, by: str | None = None, reason: str | None = None
    ) -> RunSnapshot:
        """Cancel a run; the answer is CANCELLING, or terminal where it had ended already.

        Raises:
            RunNotFound: There is none with this id.
            CancelNotStored: NATS could not be asked.
        """
        canceller = self._require_gateway().canceller
        within = await self._reached()
        return await canceller.ask(RecordCancel(run_id, by=by, reason=reason), within=within)

    async def move(self, run_id: str, timing: Timing) -> RunSnapshot:
        """Change when a run that has not started may start, or until when; see `move_run`."""
        self._require_gateway()
        await self._reached()
        return await move_run(self._runs, self._queue, run_id, timing)

    async def run(self, run: NewRun) -> RunSnapshot:
        """Submit a run and wait for its end; raises as `submit`.

        Cancelled while waiting, the run goes on.
        """
        return await self.ended((await self.submit(run)).run_id)

    async def ended(self, run_id: str) -> RunSnapshot:
        """Wait until a run is COMPLETED, FAILED or CANCELLED, and return it.

        Raises:
            RunNotFound: There is none with this id, or it was deleted meanwhile.
            BridgeError: NATS could not be asked.
        """
        async with self.watch(run_id) as states:
            async for state in states:
                if state.status.terminal:
                    return state
        raise RunNotFound(run_id)

    def watch(self, run_id: str) -> AbstractAsyncContextManager[AsyncIterator[RunSnapshot]]:
        """Follow a run: its state now and each one after, newest only for a slow reader.

        The iterator ends when the run was deleted. It goes on after the terminal state, which the
        caller knows by `RunStatus.terminal`. Whoever cancels a wait for the next state loses none;
        but in a backend with a client only, the iterator is at its end then.

        Raises:
            RunNotFound: There is none with this id.
            BridgeError: NATS could not be asked.
        """
        reads = self._require_gateway().reads
        return self._watch_as_client(run_id) if reads is None else reads.feeds.of_run(run_id)

    @asynccontextmanager
    async def _watch_as_client(self, run_id: str) -> AsyncIterator[AsyncIterator[RunSnapshot]]:
        await self._reached()
        async with self._runs.watch(run_id) as states:
            yield states

    def logs(
        self, run_id: str, *, follow: bool = True
    ) -> AbstractAsyncContextManager[AsyncIterator[LogChunk]]:
        """What the tasks of a run print: what there is, and then each piece as it comes, to the run's end.

        Args:
            run_id: The run; one that does not exist, or not any more, prints nothing.
            follow: False ends with what there is.

        Raises:
            BridgeError: NATS could not be asked, while not following.
            Unavailable: Nobody reads for followers any more, while following: the gateway is stopping.
        """
        return printed(self.events, self.get, run_id, follow=follow)

    async def worker(self, worker_id: str) -> WorkerRecord | None:
        """The last known record of a worker, None where there is none."""
        return self.reads.worker_registry.get(worker_id)

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
        return await key_ring.authenticate(api_key)

    @property
    def events(self) -> EventReader:
        """The events of runs, stored and coming."""
        return self._require_gateway().events

    @property
    def dead_letters(self) -> DeadLetterDesk:
        """Who sees to dead letters and repeats runs."""
        return _whole(self._require_gateway().dead_letters)

    @property
    def schedules(self) -> ScheduleDesk:
        """Who sees to schedules for people."""
        return _whole(self._require_gateway().schedules)

    @property
    def wheel_registry(self) -> WheelRegistry:
        """Takes wheels in and out."""
        return _whole(self._require_gateway().wheel_registry)

    # This process's own worker ---------------------------------------------------------------------

    @property
    def worker_id(self) -> str | None:
        """The id of the worker that runs in this backend, if one does."""
        return None if self._worker is None else self._worker.name.worker_id

    @property
    def worker_refusal(self) -> WorkerIdTaken | None:
        """Why the worker of this backend takes no jobs: another process has its id, and lives.

        It drains then, as if an operator had told it to.
        """
        return None if self._worker is None else self._worker.name.refusal

    async def worker_started(self) -> None:
        """Wait until the worker of this backend can take jobs, unless an operator has told it to wait."""
        await self._require_worker().dispatcher.ask_over_restarts(Started())

    async def first_job(self) -> None:
        """Wait until the worker of this backend has taken a job."""
        await self._require_worker().dispatcher.ask_over_restarts(FirstJob())

    async def drain_ordered(self) -> None:
        """Wait until an operator has told the worker of this backend to drain."""
        await self._require_worker().dispatcher.ask_over_restarts(DrainOrdered())

    async def drain(self, *, within: float) -> bool:
        """Let the worker take no more jobs; return whether its slots got free within so many seconds."""
        with trio.move_on_after(within):
            await self._require_worker().dispatcher.ask_over_restarts(Drain())
            return True
        return False

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
            reasons.append(status.absence)
        missing: str | None = f"streams and buckets not looked at within {_QUICK_ASK_SECONDS:g} s"
        with trio.move_on_after(_QUICK_ASK_SECONDS):
            missing = await self._provisioner.missing()
        if missing is not None:
            reasons.append(missing)
        if self._gateway is not None and self._gateway.reads is not None:
            reasons += await self._gateway.reads.obstacles()
        key_ring = None if self._gateway is None else self._gateway.key_ring
        if key_ring is not None and not key_ring.fresh:
            reasons.append("the API keys could not be read lately")
        if self.worker_refusal is not None:
            reasons.append(str(self.worker_refusal))
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

    async def _reached(self) -> float:
        """Wait, in a client, until it was ready once: a program asks as soon as its block is entered.

        Returns the seconds that are left for the call; it fails as it would have where NATS is not there.
        """
        began = trio.current_time()
        gateway = self._gateway
        if not self._was_ready and gateway is not None and gateway.reads is None:
            with suppress(NotReady):
                await self.wait_ready(within=_ASK_SECONDS - _QUICK_ASK_SECONDS)
                self._was_ready = True
        return _ASK_SECONDS - (trio.current_time() - began)

    def _require_gateway(self) -> GatewayTree:
        if self._gateway is None:
            raise _not_there("a gateway", "gateway=True")
        return self._gateway

    def _require_worker(self) -> WorkerTree:
        if self._worker is None:
            raise _not_there("a worker", "worker=WorkerOptions(…)")
        return self._worker


def _not_there(what: str, argument: str) -> RuntimeError:
    return RuntimeError(f"this backend was opened without {what}: open_backend({argument})")


def _whole(part: T | None) -> T:
    """Return a part that only a whole gateway has."""
    if part is None:
        raise _not_there("a whole gateway", 'gateway="whole"')
    return part
