"""Takes runs in, in the task of whoever submits: one, or many in batches, each with an outcome of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TypeAlias, TypeVar

import structlog
import trio

from pyoco_server.gateway.idempotency import KeyedDraft, OnceOnly
from pyoco_server.gateway.intake import Draft, Intake
from pyoco_server.gateway.new_run import (
    Accepted,
    NewRun,
    NotAccepted,
    RunTooLarge,
    why_not_accepted,
)
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.kernel import Refusal
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.run import UnreadableSnapshot

log = structlog.get_logger(__name__)

D = TypeVar("D", Draft, KeyedDraft)
Outcomes: TypeAlias = dict[int, Accepted | Exception]

# So many runs are worked on at once by themselves; more wait.
_IN_FLIGHT = 256
# The server takes 50 at a time of a stream, from all gateways together, of 1,000 messages at most. Fewer
# here, so that others get their turn in between.
_BATCHES = 12
_BATCH_RUNS = 250
_BATCH_BYTES = 2 * 1024 * 1024


class Submitter:
    """Accepts runs. What may be stored of one that is not accepted is taken back, whoever waits for that."""

    def __init__(self, intake: Intake, once: OnceOnly) -> None:
        self._intake = intake
        self._once = once
        self._room = trio.Semaphore(_IN_FLIGHT)
        self._batch_room = trio.Semaphore(_BATCHES)

    async def submit(self, run: NewRun, *, within: float) -> Accepted:
        """Accept a run: its snapshot is stored and its job queued when this returns.

        Cancelled, it is not accepted, unless a worker is faster than the withdrawal.

        Raises:
            NotAccepted: NATS is not there, or did not answer within so many seconds; nothing was accepted.
            RunTooLarge: The run does not fit.
            CannotWait: It is to start later, and the server cannot hold it back.
            KeyReused: Its idempotency key stands for another run.
            UnreadableSnapshot: What an earlier try with its key has stored is none.
        """
        deadline = trio.current_time() + within
        if run.timed:
            await self._prepare(deadline, run)
        if run.idempotency_key is not None:
            return await self._accept_once(self._once.draft(run), deadline)
        return await self._accept(self._intake.draft(run), deadline)

    def check(self, run: NewRun) -> None:
        """Look whether `submit` would take a run of this size.

        Raises:
            RunTooLarge: It would not.
        """
        self._intake.draft(run)

    async def _prepare(self, deadline: float, *runs: NewRun) -> None:
        keyed = all(run.idempotency_key is not None for run in runs)
        with _in_time(deadline, keyed=keyed):
            await self._intake.prepare(*runs)

    async def submit_all(
        self, runs: Sequence[NewRun], *, within: float
    ) -> list[Accepted | Exception]:
        """Submit many runs; return for each what `submit` would have returned or raised.

        Cancelled, some of them may be accepted.
        """
        outcomes: Outcomes = {}
        deadline = trio.current_time() + within
        timed = {index: run for index, run in enumerate(runs) if run.timed}
        if timed:
            try:
                await self._prepare(deadline, *timed.values())
            except Refusal as refusal:
                outcomes = dict.fromkeys(timed, refusal)
        to_do = [(index, run) for index, run in enumerate(runs) if index not in outcomes]
        plain = (pair for pair in to_do if pair[1].idempotency_key is None)
        keyed = (pair for pair in to_do if pair[1].idempotency_key is not None)
        async with trio.open_nursery() as nursery:
            settle = partial(self._settle, deadline, outcomes)
            for batch in _batches(_written(plain, self._intake.draft, outcomes)):
                nursery.start_soon(settle, batch, self._accept_together, self._accept)
                await trio.lowlevel.checkpoint()
            for once in _batches(_written(keyed, self._once.draft, outcomes)):
                nursery.start_soon(settle, once, self._once.accept_all, self._accept_once)
                await trio.lowlevel.checkpoint()
        return [outcomes[index] for index in range(len(runs))]

    async def _settle(
        self,
        deadline: float,
        outcomes: Outcomes,
        batch: Sequence[tuple[int, D]],
        all_at_once: Callable[[Sequence[D]], Awaitable[None]],
        alone: Callable[[D, float], Awaitable[Accepted]],
    ) -> None:
        """Accept runs all at once, or else each by itself from where that came to."""
        if len(batch) > 1:
            with trio.CancelScope(deadline=deadline), suppress(BridgeError):
                async with self._batch_room:
                    await all_at_once([draft for _, draft in batch])
                outcomes.update((index, draft.accepted) for index, draft in batch)
                return

        async def by_itself(index: int, draft: D) -> None:
            try:
                outcomes[index] = await alone(draft, deadline)
            except (Refusal, UnreadableSnapshot) as refusal:
                outcomes[index] = refusal

        async with trio.open_nursery() as nursery:
            for index, draft in batch:
                nursery.start_soon(by_itself, index, draft)

    async def _accept_together(self, drafts: Sequence[Draft]) -> None:
        with self._intake.undone_when_cancelled(*drafts):
            await self._intake.accept_all(drafts)

    async def _accept(self, draft: Draft, deadline: float) -> Accepted:
        with _in_time(deadline, draft), self._intake.undone_when_cancelled(draft):
            await _enter(self._room)
            try:
                await self._intake.accept(draft)
            finally:
                self._room.release()
            return draft.accepted

    async def _accept_once(self, keyed: KeyedDraft, deadline: float) -> Accepted:
        with _in_time(deadline, keyed=True):
            await _enter(self._room)
            try:
                return await self._once.accept(keyed)
            finally:
                self._room.release()


@contextmanager
def _in_time(deadline: float, draft: Draft | None = None, *, keyed: bool = False) -> Iterator[None]:
    """Refuse what NATS does not take, or not in time; ``draft`` is named where it may be stored then."""
    with trio.CancelScope(deadline=deadline) as scope:
        try:
            yield
        except BridgeError as error:
            log.warning("run not accepted", err_id=ErrorId.NATS_UNAVAILABLE, reason=str(error))
            raise NotAccepted(why_not_accepted(error, keyed=keyed)) from None
    if scope.cancelled_caught:
        run_id = draft.job.run_id if draft is not None and draft.begun else None
        raise NotAccepted(why_not_accepted(None, keyed=keyed, run_id=run_id), run_id)


async def _enter(room: trio.Semaphore) -> None:
    """Wait for a place, without a turn of the others where there is one."""
    try:
        room.acquire_nowait()
    except trio.WouldBlock:
        await room.acquire()


def _written(
    runs: Iterable[tuple[int, NewRun]], write: Callable[[NewRun], D], outcomes: Outcomes
) -> Iterator[tuple[int, D]]:
    for index, run in runs:
        try:
            yield index, write(run)
        except RunTooLarge as refusal:
            outcomes[index] = refusal


def _batches(drafts: Iterable[tuple[int, D]]) -> Iterator[list[tuple[int, D]]]:
    batch: list[tuple[int, D]] = []
    size = 0
    for index, draft in drafts:
        batch.append((index, draft))
        size += draft.size
        if len(batch) >= _BATCH_RUNS or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
