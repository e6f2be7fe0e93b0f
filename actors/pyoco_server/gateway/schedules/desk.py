"""Changes schedules for people: each change by compare-and-set against ticks and other changes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace as with_fields
from functools import partial
from itertools import islice
from typing import Any, Final, Literal, TypeVar

import msgspec
import trio
from msgspec.structs import replace

from pyoco_server.gateway.new_run import Accepted
from pyoco_server.gateway.schedules.alarm import Alarm
from pyoco_server.gateway.schedules.board import ScheduleBoard
from pyoco_server.gateway.schedules.rounds import Rounds
from pyoco_server.gateway.schedules.runs import FlowNotKept, ScheduleRuns
from pyoco_server.gateway.submitter import Submitter
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.kernel import Refusal
from pyoco_server.model.flow.file import FlowFile
from pyoco_server.model.run import RunStatus
from pyoco_server.model.schedules import rules
from pyoco_server.model.schedules.schedule import (
    TIMING_FIELDS,
    InvalidSchedule,
    Schedule,
    ScheduleProgress,
    ScheduleSpec,
    TickOutcome,
    TickRecord,
    UnreadableSchedule,
    check_schedule_id,
    read_spec,
    storage_key,
)
from pyoco_server.model.schedules.ticks import ticks
from pyoco_server.store.schedules import ScheduleStore, StoredSchedule
from pyoco_server.store.workflows import WorkflowStore

A = TypeVar("A")

MAX_PREVIEW: Final = 100
MAX_BACKFILL: Final = 1_000
MAX_SCHEDULES: Final = 20_000

_DIGEST: Final = re.compile("[0-9a-f]{64}")
_TRIES: Final = 20
# A recurrence rule that is never due takes seconds to be found out.
_READ_SECONDS: Final = 5.0
_SUBMIT_SECONDS: Final = 15.0
_WHEN: Final = (*TIMING_FIELDS, "timezone", "start_at", "end_at", "jitter_sec")


class ScheduleNotFound(Refusal):
    """There is no such schedule that the asker may see."""

    def __init__(self, schedule_id: str) -> None:
        super().__init__(f"schedule {schedule_id} not found")
        self.schedule_id = schedule_id


class ScheduleExists(Refusal):
    """There is a schedule with that id."""


class ScheduleChanged(Refusal):
    """The schedule has another version than the asker knows."""


class SchedulesUnavailable(Refusal):
    """NATS could not be asked."""


class TooManySchedules(Refusal):
    """There are as many schedules as there may be."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks.

    Attributes:
        tenant_id: Whose schedules those are.
        api_key_id: The key that new schedules and their runs belong to.
        actor: How the history names them.
        request_id: See `NewRun`.
        traceparent: See `NewRun`.
    """

    tenant_id: str | None = None
    api_key_id: str | None = None
    actor: str | None = None
    request_id: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants a schedule to be.

    Attributes:
        fields: As `read_spec` takes them.
        file: The flow.yaml that it brings.
        paused: Whether it is to be paused; None leaves that as it is.
    """

    fields: Mapping[str, Any]
    file: FlowFile | None = None
    paused: bool | None = None


@dataclass(frozen=True, slots=True)
class Filled:
    """What became of a tick of a backfill.

    Attributes:
        tick: The tick.
        run_id: Its run.
        outcome: ``exists``, ``submitted``, ``would_submit`` or ``failed``.
        reason: Why it failed.
    """

    tick: int
    run_id: str
    outcome: Literal["exists", "submitted", "would_submit", "failed"]
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Backfill:
    """What a backfill does.

    Attributes:
        items: Of each tick, in order.
        more: Whether there are more ticks than the limit.
    """

    items: list[Filled]
    more: bool


class ScheduleDesk:
    """Does it in the task of whoever asks.

    Each call raises `SchedulesUnavailable` where NATS cannot be asked. Cancelled, it may or may not be done.
    """

    def __init__(
        self,
        store: ScheduleStore,
        board: ScheduleBoard,
        rounds: Rounds,
        alarm: Alarm,
        runs: ScheduleRuns,
        submitter: Submitter,
        texts: WorkflowStore,
        default_tag: str,
    ) -> None:
        self._store = store
        self.board = board
        self._rounds = rounds
        self._alarm = alarm
        self._runs = runs
        self._submitter = submitter
        self._texts = texts
        self._default_tag = default_tag

    nothing_yet: Final = ScheduleProgress(cursor=0)
    """How far a schedule is that is not stored."""

    async def flow_text(self, sha256: str) -> str | None:
        """The flow.yaml that schedules brought, by its digest; None where it is not kept."""
        if not _DIGEST.fullmatch(sha256):
            return None
        with _asking():
            return await self._texts.get(sha256)

    async def statuses(self, run_ids: Sequence[str]) -> Mapping[str, RunStatus]:
        """Where those of the runs stand that are there."""
        with _asking():
            return await self._runs.statuses(run_ids)

    async def computed(self, compute: Callable[[], A]) -> A:
        """What is computed in a thread: recurrence rules may take seconds.

        Raises:
            InvalidSchedule: It takes too long.
        """
        return await _computed(compute)

    async def now(self) -> float:
        """The server's time."""
        with _asking():
            return await self._store.now()

    def listed(
        self, tenant_id: str | None, wanted: Callable[[Schedule], bool]
    ) -> Iterable[Schedule]:
        """The schedules that a tenant, or with None everybody, has, by id, as they were some time ago.

        Raises:
            SchedulesUnavailable: They are still being read.
        """
        if not self.board.caught_up:
            raise SchedulesUnavailable("the schedules are being read")
        return self.board.all(lambda s: tenant_id in (None, s.tenant_id) and wanted(s))

    async def get(self, schedule_id: str, who: Person) -> Schedule:
        """A schedule as it is now.

        Raises:
            ScheduleNotFound: There is none that the asker may see.
        """
        return (await self._get(schedule_id, who)).schedule

    async def preview(self, wish: Wish, count: int) -> tuple[ScheduleSpec, list[int]]:
        """The spec of what is not stored, and its next ticks.

        Raises:
            InvalidSchedule: It cannot be one.
        """
        with _asking():
            now = await self._store.now()
        spec = await self._read(wish, now)
        return spec, await _computed(lambda: list(islice(ticks(spec, now), count)))

    async def create(self, schedule_id: str, wish: Wish, who: Person) -> Schedule:
        """Make a schedule; nothing before now is due.

        Raises:
            InvalidSchedule: It cannot be one.
            ScheduleExists: There is one with that id.
            TooManySchedules: There are too many.
        """
        check_schedule_id(schedule_id)
        with _asking():
            now = await self._store.now()
            spec = await self._read(wish, now)
            if len(self.board) >= MAX_SCHEDULES:
                raise TooManySchedules(f"there are {len(self.board)} schedules, as many as may be")
            await self._keep(wish)
            bare = Schedule(
                schedule_id=schedule_id,
                spec=spec,
                progress=ScheduleProgress(cursor=0),
                paused=bool(wish.paused),
                tenant_id=who.tenant_id,
                api_key_id=who.api_key_id,
                created_at=now,
            )
            stored = await self._store.create(rules.made(bare, now, who.actor))
            if stored is None:
                raise ScheduleExists(f"there is a schedule {schedule_id}")
            await self._alarm.set_soon(stored)
        return stored.schedule

    async def replace(
        self, schedule_id: str, wish: Wish, who: Person, *, version: int | None = None
    ) -> Schedule:
        """Make a schedule another one; what is due before that still goes by what it was.

        Where times change, ticks go by the new ones from now on.

        Raises:
            InvalidSchedule: It cannot be one.
            ScheduleNotFound: There is none that the asker may see.
            ScheduleChanged: It has another version.
        """
        with _asking():
            now = await self._store.now()
            spec = await self._read(wish, now)
            await self._keep(wish)
        return await self._change(
            schedule_id, who, partial(_with_spec, spec=spec, wish=wish, who=who), version
        )

    async def patch(
        self, schedule_id: str, wish: Wish, who: Person, *, version: int | None = None
    ) -> Schedule:
        """Change some fields of a schedule; raises as `replace`."""
        when = [name for name in TIMING_FIELDS if name in wish.fields]
        if when and all(wish.fields[name] is None for name in when):
            raise InvalidSchedule(
                when[0], f"is not taken away alone: give one of {', '.join(TIMING_FIELDS)} instead"
            )
        for _ in range(_TRIES):
            before = await self.get(schedule_id, who)
            fields = document(before) | dict(wish.fields)
            if when:
                fields |= {name: wish.fields.get(name) for name in TIMING_FIELDS}
            whole = with_fields(wish, fields=fields)
            try:
                return await self.replace(
                    schedule_id, whole, who, version=version or before.version
                )
            except ScheduleChanged:
                if version is not None:
                    raise
        raise SchedulesUnavailable("the schedule is changed by others all the time")

    async def pause(self, schedule_id: str, who: Person) -> Schedule:
        """Let no tick have a run from now on; raises as `get`."""

        def change(schedule: Schedule, now: float) -> Schedule:
            if schedule.paused:
                return schedule
            return rules.changed(rules.paused(schedule, now), now, "pause", who.actor)

        return await self._change(schedule_id, who, change)

    async def resume(self, schedule_id: str, who: Person) -> Schedule:
        """Go on with the ticks from now on; those of the pause are left out. Raises as `get`."""

        def change(schedule: Schedule, now: float) -> Schedule:
            if not schedule.paused:
                return schedule
            on = rules.from_now_on(replace(schedule, paused=False), now)
            return rules.changed(on, now, "resume", who.actor)

        return await self._change(schedule_id, who, change)

    async def delete(self, schedule_id: str, who: Person) -> None:
        """Delete a schedule; its runs stay. Raises as `get`."""
        for _ in range(_TRIES):
            stored = await self._get(schedule_id, who)
            with _asking():
                if await self._store.delete(stored):
                    self.board.drop(stored.schedule.key, stored.revision)
                    return
        raise SchedulesUnavailable("the schedule is changed by others all the time")

    async def trigger(
        self, schedule_id: str, who: Person, *, idempotency_key: str | None = None
    ) -> Accepted:
        """Submit a run of a schedule now, beside its ticks, whatever else goes on.

        Raises:
            ScheduleNotFound: There is none that the asker may see.
            FlowNotKept: Its flow.yaml is gone.
            Refusal: As `Submitter.submit`.
        """
        schedule = await self.get(schedule_id, who)
        with _asking():
            now = await self._store.now()
            run = await self._runs.run_of(schedule, int(now))
        run = with_fields(
            run,
            # Not a whole second, as ticks are: it is the run of none.
            scheduled_at=now,
            idempotency_key=idempotency_key,
            key_space=f"trigger {schedule_id}",
            run_id=(
                None if idempotency_key is None else schedule.run_id_asked_for(idempotency_key)
            ),
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
            await self._note(
                schedule_id, who, lambda s, _: rules.with_records(s, [record], counted=False)
            )
        return accepted

    async def backfill(
        self, schedule_id: str, who: Person, begin: int, end: int, limit: int, *, dry_run: bool
    ) -> Backfill:
        """Submit the runs of past ticks that have none, from the first on; repeated, it makes no second ones.

        It goes by what the schedule is now, and looks at neither `Overlap` nor whether it is paused.

        Raises:
            ScheduleNotFound: There is none that the asker may see.
            InvalidSchedule: The time is none, or not over.
            FlowNotKept: Its flow.yaml is gone.
        """
        schedule = await self.get(schedule_id, who)
        with _asking():
            now = await self._store.now()
        if not 0 <= begin <= end:
            raise InvalidSchedule("to", "is before from")
        if end > now:
            raise InvalidSchedule(
                "to", "is not over yet: ticks to come have their runs by themselves"
            )

        def find() -> list[int]:
            past = ticks(schedule.spec, begin - 1)
            return [tick for tick in islice(past, limit + 1) if tick <= end]

        found = await _computed(find)
        more, found = len(found) > limit, found[:limit]
        ids = {tick: schedule.run_id_of(tick) for tick in found}
        with _asking():
            there = await self._runs.statuses(list(ids.values()))
            missing = [tick for tick in found if ids[tick] not in there]
            outcomes: list[Accepted | Exception] = []
            if not dry_run and missing:
                outcomes = await self._runs.submit_all([(schedule, tick) for tick in missing])
                for outcome in outcomes:
                    if isinstance(outcome, FlowNotKept | BridgeError):
                        raise outcome
        done = dict(zip(missing, outcomes, strict=False))
        items = [
            _filled(tick, ids[tick], exists=ids[tick] in there, outcome=done.get(tick))
            for tick in found
        ]
        if submitted := sum(item.outcome == "submitted" for item in items):
            span = [f"from={begin}", f"to={end}", f"runs={submitted}"]
            await self._note(
                schedule_id,
                who,
                lambda s, at: rules.changed(s, at, "backfill", who.actor, fields=span),
            )
        return Backfill(items, more)

    # How ------------------------------------------------------------------------------------------

    async def _get(self, schedule_id: str, who: Person) -> StoredSchedule:
        key = storage_key(who.tenant_id, schedule_id)
        if who.tenant_id is None and self.board.get(key) is None:
            # Without keys everybody sees everything.
            for schedule in self.board.all(lambda s: s.schedule_id == schedule_id):
                key = schedule.key
        try:
            check_schedule_id(schedule_id)
            with _asking():
                stored = await self._store.get(key)
        except InvalidSchedule:
            stored = None
        if stored is None:
            raise ScheduleNotFound(schedule_id)
        return stored

    async def _change(
        self,
        schedule_id: str,
        who: Person,
        change: Callable[[Schedule, float], Schedule],
        version: int | None = None,
    ) -> Schedule:
        for _ in range(_TRIES):
            stored = await self._get(schedule_id, who)
            with _asking():
                # What is due goes by what the schedule was.
                stored = await self._rounds.look(stored.schedule.key) or stored
                now = await self._store.now()
                if version not in (None, stored.schedule.version):
                    raise ScheduleChanged(
                        f"the schedule has version {stored.schedule.version}, not {version}"
                    )
                after = await _computed(partial(change, stored.schedule, now))
                if after == stored.schedule:
                    return after
                written = await self._store.update(stored, after)
                if written is not None:
                    await self._alarm.set_soon(written)
                    return written.schedule
        raise SchedulesUnavailable("the schedule is changed by others all the time")

    async def _note(
        self, schedule_id: str, who: Person, change: Callable[[Schedule, float], Schedule]
    ) -> None:
        """Write into a schedule what was done with it; what was done stays done where that fails."""
        try:
            await self._change(schedule_id, who, change)
        except Refusal:
            return

    async def _keep(self, wish: Wish) -> None:
        if wish.file is not None:
            await self._texts.put(wish.file.text)

    async def _read(self, wish: Wish, now: float) -> ScheduleSpec:
        fields = dict(wish.fields)
        if wish.file is not None:
            fields["workflow_yaml_sha256"] = wish.file.sha256
            fields["workflow_yaml_bytes"] = wish.file.size_bytes
        return await _computed(partial(read_spec, fields, default_tag=self._default_tag, now=now))


def document(schedule: Schedule) -> dict[str, Any]:
    """What `read_spec` makes the schedule's spec of again."""
    fields: dict[str, Any] = msgspec.to_builtins(schedule.spec)
    del fields["anchor_at"]
    return fields


def _with_spec(
    schedule: Schedule, now: float, *, spec: ScheduleSpec, wish: Wish, who: Person
) -> Schedule:
    before = schedule.spec
    if spec.start_at is None and spec.rrule == before.rrule and spec.timezone == before.timezone:
        spec = replace(spec, anchor_at=before.anchor_at)
    differing = [
        name for name in spec.__struct_fields__ if getattr(spec, name) != getattr(before, name)
    ]
    after = replace(schedule, spec=spec)
    if any(name in _WHEN for name in differing):
        after = rules.from_now_on(after, now)
    if wish.paused is not None and wish.paused != schedule.paused:
        differing.append("paused")
        if wish.paused:
            after = rules.paused(after, now)
        else:
            after = rules.from_now_on(replace(after, paused=False), now)
    if not differing:
        return schedule
    return rules.changed(after, now, "update", who.actor, fields=differing)


def _filled(
    tick: int, run_id: str, *, exists: bool, outcome: Accepted | Exception | None
) -> Filled:
    match outcome:
        case None:
            return Filled(tick, run_id, "exists" if exists else "would_submit")
        case Accepted():
            return Filled(tick, outcome.run_id, "submitted")
        case _:
            return Filled(tick, run_id, "failed", str(outcome))


async def _computed(compute: Callable[[], A]) -> A:
    """What is computed in a thread: recurrence rules may take seconds.

    Raises:
        InvalidSchedule: It takes too long.
    """
    with trio.move_on_after(_READ_SECONDS):
        return await trio.to_thread.run_sync(compute, abandon_on_cancel=True, limiter=_ROOM)
    raise InvalidSchedule("rrule", "takes too long to be computed, as one that is never due does")


_ROOM: Final = trio.CapacityLimiter(4)


@contextmanager
def _asking() -> Iterator[None]:
    try:
        yield
    except (BridgeError, UnreadableSchedule) as error:
        raise SchedulesUnavailable(str(error)) from None
