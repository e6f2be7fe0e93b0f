"""Runs of schedules that people ask for: one now, or those of ticks that are past."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace as with_fields
from itertools import islice
from typing import Final

from msgspec.structs import replace

from pyoco_server.api.schedules import BackfillAnswer, FilledTick
from pyoco_server.gateway.new_run import Accepted, Person
from pyoco_server.gateway.schedules.records import ScheduleRecords, asking
from pyoco_server.gateway.schedules.runs import FlowNotKept, ScheduleRuns
from pyoco_server.gateway.submitter import Submitter
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.kernel import Refusal
from pyoco_server.model.errors import InvalidField
from pyoco_server.model.schedules import rules
from pyoco_server.model.schedules.schedule import Schedule, TickOutcome, TickRecord
from pyoco_server.model.schedules.ticks import local_time, ticks

MAX_BACKFILL: Final = 1_000

_SUBMIT_SECONDS: Final = 15.0


class RunGone(Refusal):
    """The run that a tick had is not there any more, and its idempotency key still is."""


class AskedRuns:
    """Submits them, in the task of whoever asks; raises as `ScheduleRecords` does."""

    def __init__(self, records: ScheduleRecords, runs: ScheduleRuns, submitter: Submitter) -> None:
        self._records = records
        self._runs = runs
        self._submitter = submitter

    async def trigger(
        self, schedule_id: str, who: Person, *, idempotency_key: str | None = None
    ) -> Accepted:
        """Submit a run of a schedule now, beside its ticks, whatever else goes on.

        Raises:
            ScheduleNotFound: There is none that the asker may see.
            FlowNotKept: Its flow.yaml is gone.
            NotATiming: This machine does not know its time zone.
            Refusal: As `Submitter.submit`.
        """
        schedule = (await self._records.get(schedule_id, who)).schedule
        now = await self._records.now()
        with asking():
            run = await self._runs.run_of(schedule, int(now))
        run = with_fields(
            run,
            # Not a whole second, as ticks are: it is the run of none.
            scheduled_at=now,
            idempotency_key=idempotency_key,
            key_space=f"trigger {schedule_id}",
            # The key names the run, for a day; by the next try the time is another one.
            same_as=f"trigger {schedule.key}",
            run_id=None,
            api_key_id=who.api_key_id or schedule.api_key_id,
            request_id=who.request_id,
            traceparent=who.traceparent,
        )
        accepted = await self._submitter.submit(run, within=_SUBMIT_SECONDS)
        if not accepted.replayed:
            record = TickRecord(
                tick=int(now),
                outcome=TickOutcome.RUN,
                decided_at=now,
                run_id=accepted.run_id,
                triggered=True,
                reason=who.actor,
            )
            await self._records.note(
                schedule_id,
                who,
                lambda s, _: rules.with_records(s, [record], counted=False),
                in_thread=False,
            )
        return accepted

    async def backfill(
        self, schedule_id: str, who: Person, begin: int, end: int, limit: int, *, dry_run: bool
    ) -> BackfillAnswer:
        """Submit the runs of past ticks that have none, from the first on; repeated, it makes no second ones.

        It goes by what the schedule is now, and looks at neither `Overlap` nor whether it is paused.

        Raises:
            ScheduleNotFound: There is none that the asker may see.
            InvalidField: The time is none, or not over.
            NotATiming: Its times cannot be computed here.
            FlowNotKept: Its flow.yaml is gone.
        """
        schedule = (await self._records.get(schedule_id, who)).schedule
        now = await self._records.now()
        if not 0 <= begin <= end:
            raise InvalidField("to", "is before from")
        if end > now:
            raise InvalidField("to", "is not over yet: ticks to come have their runs by themselves")

        def find() -> list[int]:
            past = ticks(schedule.spec, begin - 1)
            return [tick for tick in islice(past, limit + 1) if tick <= end]

        found = await self._records.computed(find)
        more, found = len(found) > limit, found[:limit]
        ids = {tick: schedule.run_id_of(tick) for tick in found}
        with asking():
            there = await self._runs.statuses(list(ids.values()))
            missing = [tick for tick in found if ids[tick] not in there]
            outcomes: list[Accepted | Exception] = []
            if not dry_run and missing:
                outcomes = await self._runs.submit_all([(schedule, tick) for tick in missing])
                for outcome in outcomes:
                    if isinstance(outcome, FlowNotKept | BridgeError):
                        raise outcome
                outcomes = await self._there(outcomes)
        done = dict(zip(missing, outcomes, strict=False))
        items = [
            _filled(schedule, tick, exists=ids[tick] in there, outcome=done.get(tick))
            for tick in found
        ]
        if submitted := sum(item.outcome == "submitted" for item in items):
            span = [f"from={begin}", f"to={end}", f"runs={submitted}"]
            await self._records.note(
                schedule_id,
                who,
                lambda s, at: rules.changed(s, at, "backfill", who.actor, fields=span),
            )
        return BackfillAnswer(items=items, dry_run=dry_run, more=more)

    async def _there(self, outcomes: Sequence[Accepted | Exception]) -> list[Accepted | Exception]:
        """The outcomes, where a key of the last day stands for a run that is gone with `RunGone`."""
        replayed = [o.run_id for o in outcomes if isinstance(o, Accepted) and o.replayed]
        there = await self._runs.statuses(replayed)
        return [
            RunGone("its run is gone, and its idempotency key is kept for a day: try again then")
            if isinstance(o, Accepted) and o.replayed and o.run_id not in there
            else o
            for o in outcomes
        ]


def _filled(
    schedule: Schedule, tick: int, *, exists: bool, outcome: Accepted | Exception | None
) -> FilledTick:
    filled = FilledTick(
        tick_at=tick,
        local=local_time(tick, schedule.spec.timezone).isoformat(),
        run_id=schedule.run_id_of(tick),
        outcome="exists" if exists else "would_submit",
        reason=None,
    )
    match outcome:
        case None:
            return filled
        case Accepted():
            return replace(filled, run_id=outcome.run_id, outcome="submitted")
        case _:
            return replace(filled, outcome="failed", reason=str(outcome))
