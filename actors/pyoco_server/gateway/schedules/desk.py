"""Changes schedules for people: each change by compare-and-set against ticks and other changes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import replace as with_fields
from functools import partial
from itertools import islice
from typing import Any, Final, TypeVar

import msgspec
from msgspec.structs import replace

from pyoco_server.gateway.new_run import Person, RunTooLarge
from pyoco_server.gateway.schedules.alarm import Alarm
from pyoco_server.gateway.schedules.asked import AskedRuns
from pyoco_server.gateway.schedules.board import ScheduleBoard
from pyoco_server.gateway.schedules.records import (
    TRIES,
    ScheduleChanged,
    ScheduleRecords,
    SchedulesUnavailable,
    TakesTooLong,
    asking,
)
from pyoco_server.gateway.schedules.rounds import Rounds
from pyoco_server.gateway.schedules.runs import ScheduleRuns
from pyoco_server.gateway.submitter import Submitter
from pyoco_server.kernel import Refusal
from pyoco_server.model.errors import InvalidField
from pyoco_server.model.flow.file import FlowFile
from pyoco_server.model.json_text import encode_json
from pyoco_server.model.run import RunStatus
from pyoco_server.model.schedules import rules
from pyoco_server.model.schedules.reading import read_spec
from pyoco_server.model.schedules.schedule import (
    TIMING_FIELDS,
    Schedule,
    ScheduleProgress,
    ScheduleSpec,
    check_schedule_id,
)
from pyoco_server.model.schedules.ticks import ticks
from pyoco_server.store.schedules import ScheduleStore
from pyoco_server.store.workflows import WorkflowStore

A = TypeVar("A")

MAX_PREVIEW: Final = 100
MAX_SCHEDULES: Final = 20_000

_DIGEST: Final = re.compile("[0-9a-f]{64}")
_WHEN: Final = (*TIMING_FIELDS, "timezone", "start_at", "end_at", "jitter_sec")


class ScheduleExists(Refusal):
    """There is a schedule with that id."""


class TooManySchedules(Refusal):
    """There are as many schedules as there may be."""


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


class ScheduleDesk:
    """Does it in the task of whoever asks; raises as `ScheduleRecords` does.

    Attributes:
        board: What is known of all schedules.
        asked: Submits runs that people ask for.
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
        per_tenant: int,
    ) -> None:
        self._store = store
        self.board = board
        self._alarm = alarm
        self._runs = runs
        self._records = ScheduleRecords(store, board, rounds, alarm)
        self.asked = AskedRuns(self._records, runs, submitter)
        self._texts = texts
        self._default_tag = default_tag
        self._per_tenant = per_tenant

    async def flow_text(self, sha256: str) -> str | None:
        """The flow.yaml that schedules brought, by its digest; None where it is not kept."""
        if not _DIGEST.fullmatch(sha256):
            return None
        with asking():
            return await self._texts.get(sha256)

    async def statuses(self, run_ids: Sequence[str]) -> Mapping[str, RunStatus]:
        """Where those of the runs stand that are there."""
        with asking():
            return await self._runs.statuses(run_ids)

    async def now(self) -> float:
        """The server's time."""
        return await self._records.now()

    async def computed(self, compute: Callable[[], A]) -> A:
        """What is computed in a thread, see `ScheduleRecords.computed`."""
        return await self._records.computed(compute)

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
        return (await self._records.get(schedule_id, who)).schedule

    async def preview(
        self, wish: Wish, count: int, before: Schedule | None = None
    ) -> tuple[Schedule, list[int]]:
        """A schedule that is not stored, or what one would become by `replace`, and its next ticks.

        Raises:
            InvalidField: It cannot be one.
            RunTooLarge: It, or its runs, would not fit.
        """
        now = await self.now()
        spec = await self._read(wish, now, before)
        bare = Schedule(schedule_id="preview", spec=spec, progress=ScheduleProgress(cursor=0))
        schedule = bare if before is None else replace(before, spec=spec)
        with asking():
            await self._check_size(schedule, wish, now)
        with _named(spec.rrule):
            found = await self._records.computed(lambda: list(islice(ticks(spec, now), count)))
        return schedule, found

    async def create(self, schedule_id: str, wish: Wish, who: Person) -> Schedule:
        """Make a schedule; nothing before now is due.

        Raises:
            InvalidField: It cannot be one.
            ScheduleExists: There is one with that id.
            TooManySchedules: There are too many.
            RunTooLarge: It, or its runs, would not fit.
        """
        check_schedule_id(schedule_id)
        with asking():
            now = await self._store.now()
            spec = await self._read(wish, now)
            self._check_room(who)
            bare = Schedule(
                schedule_id=schedule_id,
                spec=spec,
                progress=ScheduleProgress(cursor=0),
                paused=bool(wish.paused),
                tenant_id=who.tenant_id,
                api_key_id=who.api_key_id,
                created_at=now,
            )
            await self._check_size(bare, wish, now)
            await self._keep(wish)
            with _named(spec.rrule):
                made = await self._records.computed(partial(rules.made, bare, now, who.actor))
            stored = await self._store.create(made)
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
            InvalidField: It cannot be one.
            ScheduleNotFound: There is none that the asker may see.
            ScheduleChanged: It has another version.
            RunTooLarge: It, or its runs, would not fit.
        """
        return await self._replace(await self.get(schedule_id, who), wish, who, version)

    async def _replace(
        self, before: Schedule, wish: Wish, who: Person, version: int | None
    ) -> Schedule:
        now = await self.now()
        spec = await self._read(wish, now, before)
        with asking():
            await self._check_size(replace(before, spec=spec), wish, now)
            await self._keep(wish)
        change = partial(_with_spec, spec=spec, wish=wish, who=who)
        return await self._records.change(before.schedule_id, who, change, version)

    async def patch(
        self, schedule_id: str, wish: Wish, who: Person, *, version: int | None = None
    ) -> Schedule:
        """Change some fields of a schedule; raises as `replace`."""
        when = [name for name in TIMING_FIELDS if name in wish.fields]
        if when and all(wish.fields[name] is None for name in when):
            raise InvalidField(
                when[0], f"is not taken away alone: give one of {', '.join(TIMING_FIELDS)} instead"
            )
        for _ in range(TRIES):
            before = await self.get(schedule_id, who)
            fields = document(before) | dict(wish.fields)
            if when:
                fields |= {name: wish.fields.get(name) for name in TIMING_FIELDS}
            whole = with_fields(wish, fields=fields)
            try:
                return await self._replace(before, whole, who, version or before.version)
            except ScheduleChanged:
                if version is not None:
                    raise
        raise SchedulesUnavailable("the schedule is changed by others all the time")

    async def pause(self, schedule_id: str, who: Person) -> Schedule:
        """Let no tick have a run from now on; raises as `get`."""
        change = partial(_with_pause, paused=True, who=who)
        return await self._records.change(schedule_id, who, change)

    async def resume(self, schedule_id: str, who: Person) -> Schedule:
        """Go on with the ticks from now on; those of the pause are left out. Raises as `get`."""
        change = partial(_with_pause, paused=False, who=who)
        return await self._records.change(schedule_id, who, change)

    async def delete(self, schedule_id: str, who: Person) -> None:
        """Delete a schedule; its runs stay. Raises as `get`."""
        for _ in range(TRIES):
            stored = await self._records.get(schedule_id, who)
            with asking():
                if await self._store.delete(stored):
                    self.board.drop(stored.schedule.key, stored.revision)
                    return
        raise SchedulesUnavailable("the schedule is changed by others all the time")

    def _check_room(self, who: Person) -> None:
        own = 0 if who.tenant_id is None else self.board.count(who.tenant_id)
        if own >= self._per_tenant:
            raise TooManySchedules(
                f"tenant {who.tenant_id} has {own} schedules, and may have {self._per_tenant} "
                "(PYOCO_SCHEDULES_PER_TENANT): delete old ones"
            )
        if len(self.board) >= MAX_SCHEDULES:
            raise TooManySchedules("there are as many schedules as the gateways take")

    async def _keep(self, wish: Wish) -> None:
        if wish.file is not None:
            await self._texts.write(wish.file.text)

    async def _check_size(self, schedule: Schedule, wish: Wish, now: float) -> None:
        size, most = len(encode_json(schedule.spec)), self._store.max_spec_bytes
        if most is not None and size > most:
            raise RunTooLarge(
                f"schedule of {size} bytes with its params: at most {most} are taken, so that its ticks and "
                "changes find room in what NATS takes (max_payload)"
            )
        await self._runs.check(schedule, int(now), wish.file)

    async def _read(self, wish: Wish, now: float, before: Schedule | None = None) -> ScheduleSpec:
        fields = dict(wish.fields)
        if wish.file is not None:
            fields["workflow_yaml_sha256"] = wish.file.sha256
            fields["workflow_yaml_bytes"] = wish.file.size_bytes
        with _named(fields.get("rrule")):
            return await self._records.computed(
                partial(
                    read_spec,
                    fields,
                    default_tag=self._default_tag,
                    now=now,
                    before=None if before is None else before.spec,
                )
            )


@contextmanager
def _named(rrule: Any) -> Iterator[None]:
    """Refuse the recurrence rule that takes too long in the block, where there is one."""
    try:
        yield
    except TakesTooLong as error:
        if rrule is None:
            raise
        raise InvalidField("rrule", f"{error}, as one that is never due does") from None


def document(schedule: Schedule) -> dict[str, Any]:
    """What `read_spec` makes the schedule's spec of again."""
    fields: dict[str, Any] = msgspec.to_builtins(schedule.spec)
    del fields["anchor_at"]
    return fields


def _with_spec(
    schedule: Schedule, now: float, *, spec: ScheduleSpec, wish: Wish, who: Person
) -> Schedule:
    before = schedule.spec
    differing = [
        name for name in spec.__struct_fields__ if getattr(spec, name) != getattr(before, name)
    ]
    if any(name in _WHEN for name in differing):
        after = rules.from_now_on(schedule, now, spec)
    else:
        after = replace(schedule, spec=spec)
    if wish.paused is not None and wish.paused != schedule.paused:
        differing.append("paused")
        after = _paused(after, now, wish.paused)
    if not differing:
        return schedule
    return rules.changed(after, now, "update", who.actor, fields=differing)


def _with_pause(schedule: Schedule, now: float, *, paused: bool, who: Person) -> Schedule:
    if paused == schedule.paused:
        return schedule
    action = "pause" if paused else "resume"
    return rules.changed(_paused(schedule, now, paused), now, action, who.actor)


def _paused(schedule: Schedule, now: float, paused: bool) -> Schedule:
    if paused:
        return rules.paused(schedule, now)
    return rules.from_now_on(replace(schedule, paused=False), now)
