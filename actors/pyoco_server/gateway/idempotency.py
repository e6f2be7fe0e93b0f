"""Submissions with an idempotency key: whatever is lost on the way and however often it is tried, one run.

The key's record names the run before anything of it is stored, and says when it is accepted; only then is
a submission answered with success. A try that finds the key in the hands of another one waits for it; when
that one has given up, or is silent, it takes the key over and brings the same run to its end. The try that
lost the key finds out when it settles it, and then waits as well.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import structlog
import trio
from msgspec.structs import replace

from pyoco_server.gateway.intake import Draft, Intake
from pyoco_server.gateway.new_run import Accepted, KeyReused, NewRun, NotAccepted, why_not_accepted
from pyoco_server.gateway.withdrawals import Withdrawals
from pyoco_server.jetstream.errors import BatchRefused, BridgeError, WrongRevision
from pyoco_server.kernel import Refusal
from pyoco_server.model.idempotency import (
    IdempotencyRecord,
    UnreadableIdempotencyRecord,
    storage_key,
)
from pyoco_server.model.job import new_run_id
from pyoco_server.model.run import UnreadableSnapshot
from pyoco_server.store.idempotency import HeldKey, IdempotencyStore
from pyoco_server.store.runs import StoredRun

log = structlog.get_logger(__name__)

# How long a try may be silent before its key is taken over: more than a healthy one takes. A wrong guess
# costs time, never a second run.
_SILENCE_SECONDS = 3.0
_FIRST_LOOK_SECONDS = 0.02
_LONGEST_LOOK_SECONDS = 0.25
# In all, waiting for others included.
_WITHIN_SECONDS = 12.0


@dataclass(slots=True)
class KeyedDraft:
    """A keyed submission on its way in.

    Attributes:
        run: What is asked for.
        key: Where its key is stored.
        record: What the key is taken with.
        draft: Its run, written once.
        begun: Whether the key may be taken with this record.
        held: The key, once it is known to be.
    """

    run: NewRun
    key: str
    record: IdempotencyRecord
    draft: Draft
    begun: bool = False
    held: HeldKey | None = None

    @property
    def size(self) -> int:
        """How many bytes of it go to NATS."""
        return self.draft.size

    @property
    def accepted(self) -> Accepted:
        """The answer to its submission."""
        return self.draft.accepted


class OnceOnly:
    """Accepts keyed submissions; a try that is cancelled is left to the withdrawals."""

    def __init__(self, keys: IdempotencyStore, intake: Intake, withdrawals: Withdrawals) -> None:
        self._keys = keys
        self._intake = intake
        self._withdrawals = withdrawals

    def draft(self, run: NewRun) -> KeyedDraft:
        """Write down a run that has an idempotency key.

        Raises:
            RunTooLarge: The run does not fit.
        """
        where = storage_key(run.tenant_id, run.idempotency_key or "", run.key_space)
        run_id = run.run_id or new_run_id()
        draft = self._intake.draft(run, run_id)
        fresh = IdempotencyRecord(run_id=run_id, digest=run.digest(), owner=uuid.uuid4().hex)
        return KeyedDraft(run, where, fresh, draft)

    async def accept_all(self, keyed: Sequence[KeyedDraft]) -> None:
        """Accept runs that are not begun, whose keys were never used: each step for all of them together.

        Cancelled, it is left to the withdrawals.

        Raises:
            BridgeError: That did not work; each may be accepted by itself, from where it is.
        """
        for each in keyed:
            each.begun = True
        try:
            held = await self._keys.create_all([(each.key, each.record) for each in keyed])
        except BatchRefused:
            for each in keyed:
                each.begun = False
            raise
        for each, taken in zip(keyed, held, strict=True):
            each.held = taken
        try:
            await self._intake.accept_all([each.draft for each in keyed])
            await self._keys.settle_all(held)
        except trio.Cancelled:
            for each, taken in zip(keyed, held, strict=True):
                self._withdrawals.add(partial(self._abandon, each.draft, taken))
            raise

    async def accept(self, keyed: KeyedDraft) -> Accepted:
        """Accept a run once for all tries with its key, from where it is.

        Cancelled or refused, the key is not used up: the next try completes the submission.

        Raises:
            KeyReused: The key stands for another submission.
            RunTooLarge: The run does not fit.
            NotAccepted: It took too long.
            UnreadableSnapshot: What an earlier try has stored is none.
            BridgeError: NATS refused or could not be asked.
        """
        run, where, fresh, draft = keyed.run, keyed.key, keyed.record, keyed.draft
        mine: str | None = None  # the run, while it is this try that works on it
        with trio.move_on_after(_WITHIN_SECONDS):
            held = keyed.held or await self._keys.create(where, fresh, unsure=keyed.begun)
            if held is not None:
                mine = fresh.run_id
                if accepted := await self._complete(draft, held, again=False):
                    return accepted
            while True:
                mine = None
                held = await self._wait_for_key(where, fresh)
                if held.record.accepted:
                    due = await self._intake.due_of(held.record.run_id) if run.timed else None
                    return Accepted(held.record.run_id, replayed=True, scheduled_for=due)
                taken = await self._keys.take_over(held, fresh.owner)
                if taken is None:
                    continue
                # The time of a draft tells the snapshot and the job of this try from those of another one.
                mine = held.record.run_id
                draft = self._intake.draft(run, mine)
                if accepted := await self._complete(draft, taken, again=True):
                    return accepted
        raise NotAccepted(
            "another submission with the same idempotency key is still being worked on", mine
        )

    async def _wait_for_key(self, where: str, mine: IdempotencyRecord) -> HeldKey:
        """Wait until the key is settled, or free to be taken over."""
        since, revision = trio.current_time(), -1
        pause = _FIRST_LOOK_SECONDS
        while True:
            try:
                held = await self._keys.get(where)
            except UnreadableIdempotencyRecord as error:
                raise NotAccepted(str(error)) from None
            if held is None:  # expired this very moment
                held = await self._keys.create(where, mine)
                if held is None:
                    continue
            if held.record.digest != mine.digest:
                raise KeyReused(
                    f"the idempotency key was used for another submission, of run {held.record.run_id}: "
                    "take a new key for each submission, and the same one only to repeat it"
                )
            if held.record.accepted or held.record.released:
                return held
            if held.revision != revision:
                since, revision = trio.current_time() - max(held.age_seconds, 0.0), held.revision
            if trio.current_time() - since >= _SILENCE_SECONDS:
                return held
            await trio.sleep(pause)
            pause = min(pause * 2, _LONGEST_LOOK_SECONDS)

    async def _complete(self, draft: Draft, held: HeldKey, *, again: bool) -> Accepted | None:
        """Bring the submission to its end; None where the key was lost to another try meanwhile."""
        try:
            try:
                store = self._intake.store_again if again else self._intake.store
                stored = draft.stored or await store(draft)
                if stored is not None:
                    await self._intake.enqueue(draft, stored)
            except WrongRevision:
                return None
            except (BridgeError, Refusal, UnreadableSnapshot):
                await self._release(held)
                raise
            try:
                # What a batch had queued, it may have settled as well.
                return (
                    draft.accepted if await self._keys.settle(held, unsure=draft.queued) else None
                )
            except BridgeError as error:
                await self._give_up(held, stored, error)
                return None
        except trio.Cancelled:
            self._withdrawals.add(partial(self._abandon, draft, held))
            raise

    async def _abandon(self, draft: Draft, held: HeldKey) -> None:
        """Undo a try that nobody waits for, unless it is settled or the key is another one's by now.

        Raises:
            BridgeError: NATS refused or could not be asked.
        """
        if not await self._keys.release(held):
            try:
                found = await self._keys.get(held.key)
            except UnreadableIdempotencyRecord:
                return
            # An earlier try to release it may have got no answer.
            if found is None or found.record != replace(held.record, released=True):
                return
        await self._intake.undo(draft.snapshot)

    async def _give_up(self, held: HeldKey, stored: StoredRun | None, failure: BridgeError) -> None:
        """Undo a try that is not known to be settled; returns where it may be, or the run goes on.

        Raises:
            NotAccepted: The key could not be released either, so that the run may go on, and is named.
            BridgeError: What made it fail; everything is taken back.
        """
        try:
            # From here on a settling that is still under way is refused when it arrives.
            released = await self._keys.release(held)
        except BridgeError as error:
            log.warning("run not noted as accepted", run_id=held.record.run_id, reason=str(error))
            why = why_not_accepted(error, keyed=True)
            raise NotAccepted(f"noting the run as accepted: {why}", held.record.run_id) from None
        if released and stored is not None and await self._intake.take_back(stored):
            raise failure

    async def _release(self, held: HeldKey) -> None:
        try:
            await self._keys.release(held)
        except BridgeError as error:
            log.info("idempotency key not released", reason=str(error))
