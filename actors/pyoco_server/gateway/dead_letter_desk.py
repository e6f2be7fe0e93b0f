"""Sees to what came to no good end: shows dead letters, drops them, and submits runs again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar, assert_never

import structlog

from pyoco_server.gateway.new_run import Accepted
from pyoco_server.gateway.resubmission import Earlier, NotRepeatable, again, of_letter, of_snapshot
from pyoco_server.gateway.submitter import Submitter
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.kernel import Actor, Refusal, Reply, Request
from pyoco_server.model.dead_letter import DeadLetter, DeadLetterReason
from pyoco_server.model.run import UnreadableSnapshot
from pyoco_server.store.letters import LetterBox, LetterPage, StoredLetter
from pyoco_server.store.runs import RunNotFound, RunStore
from pyoco_server.store.workflows import WorkflowStore

__all__ = [
    "DeadLetterDesk",
    "DeskMessage",
    "DropLetter",
    "GetLetter",
    "LetterNotFound",
    "LettersUnavailable",
    "ListLetters",
    "NotRepeatable",
    "Repeated",
    "RequeueLetter",
    "RetryRun",
]

log = structlog.get_logger(__name__)

A = TypeVar("A")
RequestT = TypeVar("RequestT", bound=Request[Any])

_SUBMIT_SECONDS = 12.0


class LetterNotFound(Refusal):
    """There is no dead letter of this number, or it is another tenant's."""

    def __init__(self, seq: int) -> None:
        super().__init__(f"dead letter {seq} not found")
        self.seq = seq


class LettersUnavailable(Refusal):
    """NATS could not be asked."""


@dataclass(frozen=True, slots=True)
class Repeated:
    """A run was submitted again.

    Attributes:
        accepted: The new run.
        retry_of: The run that it repeats.
    """

    accepted: Accepted
    retry_of: str


@dataclass(frozen=True, slots=True)
class ListLetters(Request[LetterPage]):
    """A page of letters, newest first; refused with `LettersUnavailable`.

    Attributes:
        tenant_id: Only those of this tenant; None for all. Likewise the rest.
        reason: Only those for this reason.
        tag: Only those of this tag.
        run_id: Only those about this run.
        before: Only those with a lesser sequence.
        limit: How many at most.
    """

    tenant_id: str | None = None
    reason: str | None = None
    tag: str | None = None
    run_id: str | None = None
    before: int | None = None
    limit: int = 50

    def takes(self, letter: DeadLetter) -> bool:
        """Whether a letter is wanted."""
        return (
            self.tenant_id in (None, letter.tenant_id)
            and self.reason in (None, letter.reason)
            and self.tag in (None, letter.tag)
            and self.run_id in (None, letter.run_id)
        )


@dataclass(frozen=True, slots=True)
class GetLetter(Request[StoredLetter]):
    """A letter; refused with `LetterNotFound` or `LettersUnavailable`.

    ``tenant_id`` is whose letters the asker sees, here and below; None is all.
    """

    seq: int
    tenant_id: str | None = None


@dataclass(frozen=True, slots=True)
class DropLetter(Request[None]):
    """Delete a letter; refused like `GetLetter`."""

    seq: int
    tenant_id: str | None = None


@dataclass(frozen=True, slots=True)
class RequeueLetter(Request[Repeated]):
    """Submit the run of a letter again, then delete the letter.

    Asked for again, because an answer was lost, it makes no second run.

    Refused like `GetLetter`, with `NotRepeatable`, and as the submitter refuses.
    """

    seq: int
    tenant_id: str | None = None
    api_key_id: str | None = None
    request_id: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class RetryRun(Request[Repeated]):
    """Submit a run that has ended again; whether the asker may see it is for the asker to know.

    Refused with `RunNotFound`, `NotRepeatable`, `LettersUnavailable`, and as the submitter refuses.
    """

    run_id: str
    api_key_id: str | None = None
    idempotency_key: str | None = None
    request_id: str | None = None
    traceparent: str | None = None


DeskMessage: TypeAlias = ListLetters | GetLetter | DropLetter | RequeueLetter | RetryRun


class DeadLetterDesk(Actor[DeskMessage]):
    """Carries each request out in a task of its own."""

    def __init__(
        self,
        letters: LetterBox,
        runs: RunStore,
        workflows: WorkflowStore,
        submitter: Submitter,
    ) -> None:
        self._letters = letters
        self._runs = runs
        self._workflows = workflows
        self._submitter = submitter

    async def handle(self, message: DeskMessage) -> None:
        """Start what is asked for and be free for the next one."""
        match message:
            case ListLetters():
                self._start(message, self._list)
            case GetLetter():
                self._start(message, self._get)
            case DropLetter():
                self._start(message, self._drop)
            case RequeueLetter():
                self._start(message, self._requeue)
            case RetryRun():
                self._start(message, self._retry)
            case _:
                assert_never(message)

    def _start(self, request: RequestT, work: Callable[[RequestT], Awaitable[A]]) -> None:
        self.spawn(_answer, self.reply_to(request), request, work)

    async def _list(self, request: ListLetters) -> LetterPage:
        return await self._letters.page(
            request.takes, before=request.before, limit=request.limit, tag=request.tag
        )

    async def _get(self, request: GetLetter) -> StoredLetter:
        return await self._seen(request.seq, request.tenant_id)

    async def _drop(self, request: DropLetter) -> None:
        await self._seen(request.seq, request.tenant_id)
        await self._letters.delete(request.seq)

    async def _requeue(self, request: RequeueLetter) -> Repeated:
        stored = await self._seen(request.seq, request.tenant_id)
        earlier = await self._earlier(stored.letter)
        key = f"dead-letter:{request.seq}:{earlier.run_id}"
        repeated = await self._submit(earlier, request, key)
        try:
            await self._letters.delete(request.seq)
        except BridgeError as error:
            # The run is accepted; sending the letter again would find it by its key.
            log.warning("requeued dead letter not deleted", seq=request.seq, reason=str(error))
        return repeated

    async def _retry(self, request: RetryRun) -> Repeated:
        run = (await self._runs.get(request.run_id)).snapshot
        return await self._submit(of_snapshot(run), request, request.idempotency_key)

    async def _seen(self, seq: int, tenant_id: str | None) -> StoredLetter:
        stored = await self._letters.get(seq)
        if stored is None or tenant_id not in (None, stored.letter.tenant_id):
            raise LetterNotFound(seq)
        return stored

    async def _earlier(self, letter: DeadLetter) -> Earlier:
        if letter.run_id is None or letter.reason == DeadLetterReason.INVALID_JOB:
            return of_letter(letter)
        try:
            run = (await self._runs.get(letter.run_id)).snapshot
        except RunNotFound:
            return of_letter(letter)
        return of_snapshot(run)

    async def _submit(
        self, earlier: Earlier, request: RequeueLetter | RetryRun, idempotency_key: str | None
    ) -> Repeated:
        run = await again(
            earlier,
            self._workflows,
            api_key_id=request.api_key_id,
            idempotency_key=idempotency_key,
            request_id=request.request_id,
            traceparent=request.traceparent,
        )
        accepted = await self._submitter.submit(run, within=_SUBMIT_SECONDS)
        return Repeated(accepted, earlier.run_id)


async def _answer(
    reply: Reply[A], request: RequestT, work: Callable[[RequestT], Awaitable[A]]
) -> None:
    try:
        reply.send(await work(request))
    except (Refusal, UnreadableSnapshot) as refusal:
        reply.fail(refusal)
    except BridgeError as error:
        reply.fail(LettersUnavailable(str(error)))
