"""One drill in memory: gateways and workers of real actors over a NATS server in memory, under a seed.

``python -m drills.memory --seed N`` (in the folder ``tests``) replays one; ``--seeds N`` tries many.
"""

from __future__ import annotations

import argparse
import logging
import random
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from dataclasses import replace as with_fields
from typing import Any, TypeVar, cast
from unittest import mock

import structlog
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from drills.fake_child import Began, FakeRunner, runner_factory
from drills.fake_connection import FakeConnection, Trouble
from drills.fake_nats import Server, Stored, Stream
from pyoco_server.gateway.canceller import Canceller, RecordCancel
from pyoco_server.gateway.idempotency import OnceOnly
from pyoco_server.gateway.intake import Intake
from pyoco_server.gateway.live_runs import LiveRuns
from pyoco_server.gateway.new_run import Accepted, NewRun, NotAccepted
from pyoco_server.gateway.projector import changes_of
from pyoco_server.gateway.reaper import Reaper
from pyoco_server.gateway.submitter import Submitter
from pyoco_server.gateway.undertaker import Undertaker
from pyoco_server.gateway.withdrawals import Withdrawals
from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.kernel import (
    ActorDown,
    ActorRef,
    AskExpired,
    ChildSpec,
    Refusal,
    Strategy,
    SupervisorSpec,
    open_system,
    task,
)
from pyoco_server.model.run import decode_snapshot
from pyoco_server.scenario.history import (
    CancelAnswer,
    History,
    Outcome,
    Revision,
    Submission,
    TaskExecution,
)
from pyoco_server.scenario.judge import Violation, judge
from pyoco_server.settings import Settings
from pyoco_server.store.runs import RunNotFound, RunStore
from pyoco_server.store.stores import Stores
from pyoco_server.worker.spare import SpareChild
from pyoco_server.worker.tree import WorkerOptions, worker_tree

T = TypeVar("T")

EPOCH = 1_800_000_000.0
TAG = "hello"
_SPARE = "pyoco_server.worker.spare"
_KV = "$KV.pyoco_runs."
_TROUBLE_SECONDS = 25.0
_PATIENCE_SECONDS = 240.0

SETTINGS = Settings(
    default_tag=TAG,
    consumer_ack_wait_sec=6.0,
    ack_progress_interval_sec=2.0,
    consumer_max_deliver=8,
    run_heartbeat_interval_sec=2.0,
    worker_heartbeat_interval_sec=20.0,
    cancel_grace_period_sec=3.0,
    reaper_interval_sec=5.0,
    run_orphan_after_sec=20.0,
)


@dataclass
class Gateway:
    """A gateway process of the drill."""

    connection: FakeConnection
    scope: trio.CancelScope
    requests: trio.Nursery
    submitter: Submitter
    canceller: ActorRef[RecordCancel]


@dataclass
class Worker:
    """A worker process of the drill."""

    connection: FakeConnection
    scope: trio.CancelScope
    children: list[FakeRunner] = field(default_factory=list)


class Drill:
    """One drill.

    Args:
        seed: Decides everything.
        nursery: Where all of it runs.
        folder: Where workers have their folders.
    """

    def __init__(self, seed: int, nursery: trio.Nursery, folder: str) -> None:
        self.rng = random.Random(seed)
        self.nursery = nursery
        self.settings = replace(SETTINGS, state_dir=folder)
        self.server = Server(nursery, EPOCH)
        self.trouble = Trouble(
            request_lost=self.rng.choice([0, 0.02, 0.1]),
            answer_lost=self.rng.choice([0, 0.02, 0.1]),
            late=self.rng.choice([0, 0.02, 0.05]),
            dropped=self.rng.choice([0, 0.02, 0.1]),
        )
        self.history = History()
        self.began: list[Began] = []
        self.made: list[FakeRunner] = []
        self.gateways: list[Gateway | None] = [None, None]
        self.workers: list[Worker | None] = [None, None]
        self.open_clients = 0
        self.kills = 0
        for stream in (
            Stream("PYOCO_WORK", "pyoco.work.>"),
            Stream("PYOCO_DLQ", "pyoco.dlq.>"),
            Stream("PYOCO_ADVISORIES", "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.PYOCO_WORK.>"),
            *(
                Stream(f"KV_{bucket}", f"$KV.{bucket}.>", latest_only=True)
                for bucket in (
                    SETTINGS.runs_kv_bucket,
                    SETTINGS.workers_kv_bucket,
                    SETTINGS.workflows_kv_bucket,
                    SETTINGS.idempotency_kv_bucket,
                )
            ),
        ):
            self.server.streams[stream.name] = stream
        self.server.on_store = self._note

    def now(self) -> float:
        """The drill's clock, in unix seconds."""
        return EPOCH + trio.current_time()

    def _note(self, stored: Stored) -> None:
        if stored.subject.startswith(_KV):
            gone = "KV-Operation" in stored.headers
            snapshot = None if gone else decode_snapshot(stored.payload)
            run_id = stored.subject.removeprefix(_KV)
            at = self.server.unix(stored.at)
            self.history.revisions[run_id].append(Revision(run_id, stored.seq, snapshot, at))

    def _connect(self) -> FakeConnection:
        return FakeConnection(self.server, self.trouble, random.Random(self.rng.random()))

    # Processes -----------------------------------------------------------------------------------

    async def run_gateway(self, index: int) -> None:
        """A gateway until it is killed."""
        fake = self._connect()
        connection = cast(Connection, fake)
        bucket = KeyValue(connection, SETTINGS.runs_kv_bucket)
        stores = _stores(connection)
        runs, queue = stores.runs, stores.queue
        withdrawals = Withdrawals()
        intake = Intake(connection, runs, stores.workflows, withdrawals, queue)
        submitter = Submitter(intake, OnceOnly(stores.idempotency, intake, withdrawals))
        withdrawer = task("withdrawer", withdrawals.carry_out)
        canceller: ChildSpec[RecordCancel] = ChildSpec(
            "canceller", lambda: Canceller(connection, runs, queue)
        )
        live = LiveRuns()

        async def follow() -> None:
            async with bucket.watch_batches() as batches:
                async for batch in batches:
                    live.apply(changes_of(batch))

        reaper = Reaper(
            connection,
            SETTINGS,
            live,
            runs,
            queue,
            Undertaker(runs, queue, stores.dead_letters),
        )
        children: list[ChildSpec[Any]] = [
            withdrawer,
            canceller,
            task("watch", follow),
            task("reaper", reaper.look, reaper.follow_advisories),
        ]
        root = SupervisorSpec("root", children, strategy=Strategy.ONE_FOR_ONE)
        with trio.CancelScope() as scope:
            async with open_system(root, random=self.rng), trio.open_nursery() as requests:
                self.gateways[index] = Gateway(fake, scope, requests, submitter, canceller.ref)
                await trio.sleep_forever()

    async def run_worker(self, index: int) -> None:
        """A worker until it is killed."""
        fake = self._connect()
        connection = cast(Connection, fake)
        tree = worker_tree(
            connection,
            self.settings,
            WorkerOptions(
                tags=(TAG,), worker_id=f"w{index}", slots=2, output=lambda output, slot: None
            ),
            _stores(connection),
        )
        with trio.CancelScope() as scope:
            async with open_system(SupervisorSpec("root", [tree.spec]), random=self.rng):
                self.workers[index] = Worker(fake, scope)
                await trio.sleep_forever()

    def _kill(self, process: Gateway | Worker) -> None:
        process.connection.kill()
        process.scope.cancel()
        self.kills += 1

    # Load ----------------------------------------------------------------------------------------

    async def client(self, *tickets: str) -> None:
        """Submit a run, or a batch, with keys until there is a definite answer, and maybe cancel."""
        self.open_clients += 1
        await trio.sleep(self.rng.uniform(0, _TROUBLE_SECONDS * 0.6))
        run_ids = await self._submit({ticket: self._new_run(ticket) for ticket in tickets})
        for run_id in run_ids:
            if self.rng.random() < 0.4:
                await trio.sleep(self.rng.choice([0.0, 0.02, 0.5, 3.0, 12.0]))
                await self._cancel(run_id)
        self.open_clients -= 1

    def _new_run(self, ticket: str) -> NewRun:
        params = {
            "seconds": self.rng.choice([0.01, 0.3, 2.0, 9.0]),
            "end": self.rng.choice(["ok", "ok", "ok", "raise", "crash"]),
            "stubborn": self.rng.random() < 0.3,
        }
        return NewRun(
            "flow",
            TAG,
            params=params,
            request_id=ticket,
            idempotency_key=ticket if self.rng.random() < 0.7 else None,
            max_attempts=self.rng.choice([None, None, 2, 3]),
            workflow_yaml="flow: x" if self.rng.random() < 0.2 else None,
        )

    async def _submit(self, runs: dict[str, NewRun]) -> list[str]:
        run_ids: list[str] = []
        named: dict[str, str] = {}
        while runs:
            gateway = self.rng.choice(self.gateways)
            refused = NotAccepted("there is no gateway")
            outcomes: Sequence[Accepted | Exception | None] = [refused] * len(runs)
            if gateway is not None:
                outcomes = await self._ask(gateway, [*runs.values()])
            for (ticket, run), outcome in zip([*runs.items()], outcomes, strict=True):
                if isinstance(outcome, Accepted):
                    self._note_submission(Submission(ticket, "accepted", outcome.run_id))
                    run_ids.append(outcome.run_id)
                    del runs[ticket]
                    continue
                if isinstance(outcome, NotAccepted):
                    named |= {ticket: outcome.run_id} if outcome.run_id else {}
                elif outcome is not None:
                    raise outcome
                if run.idempotency_key is None:
                    told: Outcome = "unknown" if outcome is None else "refused"
                    self._note_submission(Submission(ticket, told, named.get(ticket)))
                    del runs[ticket]
            await trio.sleep(self.rng.uniform(0.05, 1.0))
        return run_ids

    async def _ask(
        self, gateway: Gateway, runs: list[NewRun]
    ) -> Sequence[Accepted | Exception | None]:
        """Submit at a gateway; None for those without an answer: it died, or the client left."""
        outcomes: Sequence[Accepted | Exception | None] = [None] * len(runs)
        patience = self.rng.choice([15.0, 15.0, 15.0, self.rng.uniform(0, 3.0)])
        done = trio.Event()

        async def serve() -> None:
            nonlocal outcomes
            try:
                with trio.move_on_after(patience):
                    if len(runs) > 1:
                        outcomes = await gateway.submitter.submit_all(runs, within=15.0)
                    else:
                        outcomes = [await gateway.submitter.submit(runs[0], within=15.0)]
            except NotAccepted as error:
                outcomes = [error]
            finally:
                done.set()

        gateway.requests.start_soon(serve)
        await done.wait()
        return outcomes

    def _note_submission(self, submission: Submission) -> None:
        self.history.submitted(submission, "drill", self.now())

    async def _cancel(self, run_id: str) -> None:
        while True:
            gateway = self.rng.choice(self.gateways)
            if gateway is not None:
                try:
                    snapshot = await gateway.canceller.ask(RecordCancel(run_id), within=15.0)
                except RunNotFound:
                    return
                except (Refusal, ActorDown, AskExpired):
                    pass
                else:
                    self.history.cancels.append(CancelAnswer(run_id, snapshot.status, self.now()))
                    return
            await trio.sleep(self.rng.uniform(0.05, 1.0))

    # Trouble -------------------------------------------------------------------------------------

    async def saboteur(self) -> None:
        """Kill and cut off processes until the time of trouble is over."""
        while trio.current_time() < _TROUBLE_SECONDS:
            await trio.sleep(self.rng.expovariate(1 / 6))
            kind = self.rng.choice(["worker", "gateway", "cut", "child"])
            index = self.rng.randrange(2)
            if kind == "child":
                running = [child for child in self.made if child.alive]
                self.rng.choice(running).kill() if running else None
            elif kind == "cut":
                process = self.rng.choice([*self.gateways, *self.workers])
                if process is not None:
                    self.nursery.start_soon(self._cut, process.connection)
            elif kind == "worker":
                worker, self.workers[index] = self.workers[index], None
                if worker is not None:
                    self._kill(worker)
                    self.nursery.start_soon(self._again, self.run_worker, index)
            else:
                gateway, self.gateways[index] = self.gateways[index], None
                if gateway is not None:
                    self._kill(gateway)
                    self.nursery.start_soon(self._again, self.run_gateway, index)
        self.trouble.heal()

    async def _again(self, start: Any, index: int) -> None:
        await trio.sleep(self.rng.choice([0.1, 2.0, 8.0]))
        await start(index)

    async def _cut(self, connection: FakeConnection) -> None:
        if connection.status.connected:
            connection.set_connected(connected=False)
            await trio.sleep(self.rng.choice([0.1, 1.0, 10.0]))
            if connection.alive:
                connection.set_connected(connected=True)

    # The whole -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Do it all, until every accepted run has ended or patience is out."""
        for index in range(2):
            self.nursery.start_soon(self.run_gateway, index)
            self.nursery.start_soon(self.run_worker, index)
        for number in range(5):
            self.nursery.start_soon(self.client, f"t{number}")
        self.nursery.start_soon(self.client, "b1", "b2", "b3")
        await self.saboteur()
        with trio.move_on_after(_PATIENCE_SECONDS):
            while self.open_clients or not self._all_ended():
                await trio.sleep(1.0)
            # What comes late may still spoil it.
            await trio.sleep(10.0)

    def _all_ended(self) -> bool:
        lasts = map(self.history.last, self.history.revisions)
        return all(last is None or last.status.terminal for last in lasts)


def _stores(connection: Connection) -> Stores:
    """Those of a process; runs stay, and nobody is told of their changes."""
    bucket = KeyValue(connection, SETTINGS.runs_kv_bucket)
    runs = RunStore(bucket, max_bytes=SETTINGS.max_run_snapshot_bytes)
    return with_fields(Stores.of(connection, SETTINGS), runs=runs)


@contextmanager
def _determined(seed: int) -> Iterator[None]:
    """Have the clock, chance and trio's own scheduling follow from the seed."""
    real = time.time

    def now() -> float:
        try:
            return EPOCH + trio.current_time()
        except RuntimeError:
            return real()

    ids = random.Random(seed)

    def new_id() -> uuid.UUID:
        return uuid.UUID(int=ids.getrandbits(128), version=4)

    async def at_once(work: Callable[..., T], *args: Any, **_: object) -> T:
        # The virtual clock does not wait for a thread.
        await trio.lowlevel.checkpoint()
        return work(*args)

    core = trio._core._run
    random.seed(seed)
    core._r.seed(seed)
    with (
        mock.patch.object(core, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
        mock.patch.object(time, "time", now),
        mock.patch.object(uuid, "uuid4", new_id),
        mock.patch.object(trio.to_thread, "run_sync", at_once),
    ):
        yield


def drill(seed: int) -> tuple[History, list[Violation]]:
    """Run one seed; return what happened and what must not have."""

    async def main() -> History:
        async with trio.open_nursery() as nursery:
            it = Drill(seed, nursery, folder)
            factory = runner_factory(nursery, it.now, it.began, it.made)
            with (
                mock.patch(f"{_SPARE}.open_runner", factory),
                mock.patch.object(SpareChild, "prepare"),
            ):
                await it.run()
                it.history.executions = [
                    TaskExecution(each.run_id, each.attempt, each.pid, "t", each.at, each.ended)
                    for each in it.began
                ]
                nursery.cancel_scope.cancel()
        return it.history

    with _determined(seed), tempfile.TemporaryDirectory() as folder:
        history = trio.run(main, clock=MockClock(autojump_threshold=0))
    return history, judge(history)


def in_order(history: History) -> list[Revision]:
    """What was stored, in the order of the revisions."""
    stored = [each for revisions in history.revisions.values() for each in revisions]
    return sorted(stored, key=lambda each: each.revision)


def main() -> None:
    """Run seeds from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this one, and tell its history")
    parser.add_argument("--seeds", type=int, default=1000, help="how many to try")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first of them")
    arguments = parser.parse_args()
    if arguments.seed is None:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
        for seed in range(arguments.first, arguments.first + arguments.seeds):
            _, violations = drill(seed)
            if violations:
                print(f"seed {seed}:", *violations, sep="\n  ")
        return
    history, violations = drill(arguments.seed)
    for each in in_order(history):
        what = each.snapshot
        text = "deleted" if what is None else f"{what.status} attempt {what.attempt} {what.reason}"
        print(f"{each.at - EPOCH:8.3f} {each.revision:4} {each.run_id[:8]} {text}")
    for line in (*history.submissions, *history.cancels, *history.executions, *violations):
        print(line)


if __name__ == "__main__":
    main()
