"""Sees to what came to no good end: shows dead letters, drops them, and submits runs again."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import structlog
import trio
from msgspec import structs

from pyoco_server.gateway.late_letters import LateLetters
from pyoco_server.gateway.new_run import Accepted, NewRun, Person
from pyoco_server.gateway.submitter import Submitter
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.kernel import Refusal
from pyoco_server.model.dead_letter import DeadLetter, DeadLetterReason
from pyoco_server.model.json_text import NestedTooDeeply
from pyoco_server.model.limits import limits_in
from pyoco_server.model.run import RunSnapshot, RunStatus, known
from pyoco_server.model.timing import NO_TIMING, Timing
from pyoco_server.store.dead_letters import DeadLetterStore, LetterPage, StoredLetter
from pyoco_server.store.runs import RunNotFound, RunStore
from pyoco_server.store.workflows import WorkflowStore

log = structlog.get_logger(__name__)

_SUBMIT_SECONDS = 12.0
_LETTERS_OF_A_RUN = 16
# Whoever retries a run waits so long for its letters to be found among many, and no longer.
_CLEARING_SECONDS = 4.0
# By how much the clocks of workers and of NATS may differ.
_CLOCKS_SECONDS = 300.0


class LetterNotFound(Refusal):
    """There is no dead letter of this number, or it is another tenant's."""

    def __init__(self, seq: int) -> None:
        super().__init__(f"dead letter {seq} not found")
        self.seq = seq


class NotRepeatable(Refusal):
    """The run cannot be submitted again; the text says why."""


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which letters are wanted; None leaves a property open."""

    tenant_id: str | None = None
    reason: str | None = None
    tag: str | None = None
    run_id: str | None = None

    def takes(self, letter: DeadLetter) -> bool:
        """Whether a letter is wanted."""
        return (
            self.tenant_id in (None, letter.tenant_id)
            and self.reason in (None, letter.reason)
            and self.tag in (None, letter.tag)
            and self.run_id in (None, letter.run_id)
        )


class DeadLetterDesk:
    """Does it in the task of whoever asks; ``tenant_id`` is whose letters that one sees, None for all.

    Each call raises a `BridgeError` where NATS cannot be asked. Cancelled, it may or may not be done.
    """

    def __init__(
        self,
        letters: DeadLetterStore,
        runs: RunStore,
        workflows: WorkflowStore,
        submitter: Submitter,
        late: LateLetters,
    ) -> None:
        self._letters = letters
        self._late = late
        self._runs = runs
        self._workflows = workflows
        self._submitter = submitter

    async def page(self, wanted: LetterFilter, *, before: int | None, limit: int) -> LetterPage:
        """A page of letters, newest first; see `DeadLetterStore.page`.

        The first one waits for the letters of runs that FAILED just now, a second at most.
        """
        if before is None:
            await self._late.of_all(wanted.tenant_id, wanted.tag, wanted.run_id)
        return await self._letters.page(wanted.takes, before=before, limit=limit, tag=wanted.tag)

    async def get(self, seq: int, tenant_id: str | None = None) -> StoredLetter:
        """A letter.

        Raises:
            LetterNotFound: There is none that the asker may see.
        """
        stored = await self._letters.get(seq)
        if stored is None or tenant_id not in (None, stored.letter.tenant_id):
            raise LetterNotFound(seq)
        return stored

    async def drop(self, seq: int, tenant_id: str | None = None) -> None:
        """Delete a letter; raises as `get`."""
        await self.get(seq, tenant_id)
        await self._letters.delete(seq)

    async def requeue(self, seq: int, who: Person) -> tuple[Accepted, str]:
        """Submit the run of a letter again, then delete the letter; return which run is repeated as well.

        Asked for again, because an answer was lost, it makes no second run.

        Raises:
            LetterNotFound: There is none that the asker may see.
            NotRepeatable: The run cannot be submitted again.
            Refusal: As `Submitter.submit`.
        """
        stored = await self.get(seq, who.tenant_id)
        run = replace(await self._run_of(stored.letter), key_space="dead-letter")
        assert run.retry_of is not None
        accepted = await self._submit(run, who, f"{seq}:{run.retry_of}")
        try:
            await self._letters.delete(seq)
        except BridgeError as error:
            # The run is accepted; sending the letter again would find it by its key.
            log.warning("requeued dead letter not deleted", seq=seq, reason=str(error))
        return accepted, run.retry_of

    async def retry(
        self,
        run_id: str,
        who: Person,
        *,
        params: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        timing: Timing = NO_TIMING,
    ) -> Accepted:
        """Submit a run that has ended again; its dead letter goes, as it would by `requeue`.

        Whether the asker may see the run is for the asker to know. When it may start, and until when, is
        asked for anew by ``timing``; by when it was expected is so again, where that says nothing else.
        ``params`` go over those that the run had.

        Raises:
            RunNotFound: There is no such run.
            UnreadableSnapshot: What is stored is none.
            NotRepeatable: The run cannot be submitted again.
            NestedTooDeeply: The ``params`` are.
            Refusal: As `Submitter.submit`.
        """
        run = (await self._runs.get(run_id)).snapshot
        again = _of_snapshot(run)
        params = {**again.params, **(params or {})}
        again = await _changed(again, params=params, timing=timing.over(again.timing))
        accepted = await self._submit(again, who, idempotency_key)
        if run.status is RunStatus.FAILED:
            await self._drop_letters_of(run)
        return accepted

    async def _drop_letters_of(self, run: RunSnapshot) -> None:
        """Delete what is found of a run's dead letters between its end and now, within some seconds."""
        ended_at = run.end_time or run.updated_at or 0.0
        told = log.bind(run_id=run.run_id)
        with trio.move_on_after(_CLEARING_SECONDS) as clearing:
            try:
                await self._late.of_run(run.run_id, ended_at)
                page = await self._letters.page(
                    LetterFilter(run_id=run.run_id).takes,
                    before=None,
                    limit=_LETTERS_OF_A_RUN,
                    tag=run.tag,
                    not_before=ended_at - _CLOCKS_SECONDS,
                )
                for stored in page.items:
                    await self._letters.delete(stored.seq)
            except BridgeError as error:
                told.warning("dead letter of a retried run not deleted", reason=str(error))
        if clearing.cancelled_caught:
            told.warning("dead letter of a retried run not found among many, and not deleted")

    async def _run_of(self, letter: DeadLetter) -> NewRun:
        if letter.run_id is not None and letter.reason != DeadLetterReason.INVALID_JOB:
            with suppress(RunNotFound):
                run = (await self._runs.get(letter.run_id)).snapshot
                return _of_snapshot(run, letter.params)
        return _of_letter(letter)

    async def _submit(self, again: NewRun, who: Person, idempotency_key: str | None) -> Accepted:
        """Add the text of its flow.yaml to a run that repeats another one, and who asks for it now."""
        text = None
        if again.workflow_yaml_sha256 is not None:
            text = await self._workflows.get(again.workflow_yaml_sha256)
            if text is None:
                raise NotRepeatable(
                    f"the flow.yaml {again.workflow_yaml_sha256} that it brought is not kept (any more)"
                )
        run = await _changed(
            again,
            workflow_yaml=text,
            api_key_id=who.api_key_id or again.api_key_id,
            idempotency_key=idempotency_key,
            request_id=who.request_id,
            traceparent=who.traceparent,
        )
        return await self._submitter.submit(run, within=_SUBMIT_SECONDS)


async def _changed(run: NewRun, **changes: Any) -> NewRun:
    """The run with other fields; in a thread, for its params, however large, are looked through again."""
    return await trio.to_thread.run_sync(lambda: replace(run, **changes))


def _of_snapshot(run: RunSnapshot, params: dict[str, Any] | None = None) -> NewRun:
    """The run that repeats another one, but for the text of its flow.yaml.

    Its ``params`` are these where it is stored without.
    """
    if not run.status.terminal:
        raise NotRepeatable(f"the run is {run.status}; only one that has ended is submitted again")
    if known(run.params_left_out):
        if params is None:
            raise NotRepeatable(
                "its params are not kept: its end was stored without, for want of room"
            )
        run = structs.replace(run, params=params)
    expected = Timing(
        expected_start_within_sec=known(run.expected_start_within_sec),
        expected_end_within_sec=known(run.expected_end_within_sec),
    )
    return replace(_again(run, run.run_id, run.flow_name), timing=expected)


def _of_letter(letter: DeadLetter) -> NewRun:
    """The same from its dead letter, where its snapshot is gone."""
    if letter.reason == DeadLetterReason.INVALID_JOB:
        raise NotRepeatable(f"the message was no job that can be read: {letter.error}")
    if letter.run_id is None or letter.flow_name is None:
        raise NotRepeatable("the letter names no run and flow")
    if letter.params is None:
        raise NotRepeatable("neither the run nor its params are kept any more")
    return _again(letter, letter.run_id, letter.flow_name)


def _again(earlier: RunSnapshot | DeadLetter, run_id: str, flow_name: str) -> NewRun:
    try:
        return NewRun(
            flow_name,
            earlier.tag or "default",
            tuple(earlier.tags or ()),
            earlier.params or {},
            workflow_yaml_sha256=earlier.workflow_yaml_sha256,
            workflow_yaml_bytes=earlier.workflow_yaml_bytes,
            tenant_id=earlier.tenant_id,
            api_key_id=earlier.api_key_id,
            **limits_in(earlier),
            retry_of=run_id,
        )
    except NestedTooDeeply as error:
        raise NotRepeatable(f"its params are {error}") from None
