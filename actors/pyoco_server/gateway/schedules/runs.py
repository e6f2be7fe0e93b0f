"""The runs of schedules: what a tick submits, and which runs of a schedule go on."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import structlog
import trio

from pyoco_server.gateway.canceller import RecordCancel
from pyoco_server.gateway.new_run import (
    Accepted,
    KeyReused,
    NewRun,
    NotAccepted,
    RunTooLarge,
)
from pyoco_server.gateway.submitter import Submitter
from pyoco_server.jetstream.errors import BridgeError
from pyoco_server.jetstream.together import for_each
from pyoco_server.kernel import ActorRef, Refusal
from pyoco_server.model.errors import NO_THREAD, FlowFileError, ModelError
from pyoco_server.model.flow.file import FlowFile, parse_flow_yaml
from pyoco_server.model.json_text import NestedTooDeeply, encode_json
from pyoco_server.model.limits import RunLimits, limits_in
from pyoco_server.model.run import RunStatus, UnreadableSnapshot
from pyoco_server.model.schedules.params import fill_in, values_of
from pyoco_server.model.schedules.schedule import Schedule, TickOutcome, TickRecord
from pyoco_server.model.schedules.ticks import NotATiming
from pyoco_server.model.timing import SPAN_FIELDS, Timing
from pyoco_server.store.runs import RunNotFound, RunStore
from pyoco_server.store.threads import no_thread_is, read_aside
from pyoco_server.store.workflows import WorkflowStore

log = structlog.get_logger(__name__)

KEY_SPACE = "schedule"
_SUBMIT_SECONDS = 15.0
_FILES_KEPT = 64
_READ_AT_ONCE = 64
# What is written of runs before it is submitted.
_PIECE_RUNS = 250
_PIECE_BYTES = 2 * 1024 * 1024


class FlowNotKept(Refusal):
    """The flow.yaml that a schedule brought is not there any more."""


class NotComputed(Refusal):
    """What follows from a schedule was not computed in time, or had no turn, or no thread."""


class ScheduleRuns:
    """Submits, finds and cancels runs of schedules.

    Args:
        texts: Where the flow.yaml texts of schedules are kept.
    """

    def __init__(
        self,
        submitter: Submitter,
        runs: RunStore,
        texts: WorkflowStore,
        canceller: ActorRef[RecordCancel],
        max_yaml_bytes: int,
    ) -> None:
        self._submitter = submitter
        self._runs = runs
        self._texts = texts
        self._canceller = canceller
        self._max_yaml_bytes = max_yaml_bytes
        self._files: OrderedDict[str, FlowFile] = OrderedDict()

    async def submit(
        self, ticks: Sequence[tuple[Schedule, int]], *, now: float, until: float = math.inf
    ) -> list[TickRecord | Exception]:
        """Submit the runs of ticks, each once however often it is tried.

        Args:
            ticks: Of which schedules.
            now: Unix seconds.
            until: When to begin with no more of them, by trio's clock.

        Returns:
            What became of each, or of the first of them, at least one; an exception (`NotAccepted`,
            `BridgeError`) where NATS is not there, or did not answer, and `NotATiming` where this machine
            does not know its time zone.
        """
        outcomes = await self.submit_all(ticks, until=until)
        return [
            await self._record(schedule, tick, now, outcome)
            for (schedule, tick), outcome in zip(ticks, outcomes, strict=False)
        ]

    async def submit_all(
        self, ticks: Sequence[tuple[Schedule, int]], *, until: float = math.inf
    ) -> list[Accepted | Exception]:
        """Submit the runs of ticks; return for each what `run_of` or `Submitter.submit` returns or raises.

        They are made and submitted piece by piece: a thousand large ones take a gigabyte, and half a minute.
        """
        outcomes: list[Accepted | Exception] = []
        while len(outcomes) < len(ticks) and (not outcomes or trio.current_time() < until):
            piece = await self._submit_piece(ticks[len(outcomes) :])
            outcomes += piece
            if all(isinstance(outcome, NotAccepted) for outcome in piece):
                # NATS is away: each further piece would wait for it as long.
                outcomes += piece[-1:] * (len(ticks) - len(outcomes))
        return outcomes

    async def _submit_piece(
        self, ticks: Sequence[tuple[Schedule, int]]
    ) -> list[Accepted | Exception]:
        """Submit the runs of the first of these ticks; return what came of them."""
        outcomes: dict[int, Accepted | Exception] = {}
        runs: dict[int, NewRun] = {}
        size = 0
        for index, (schedule, tick) in enumerate(ticks[:_PIECE_RUNS]):
            try:
                runs[index] = run = await self.run_of(schedule, tick)
            except (Refusal, BridgeError, ModelError, NestedTooDeeply, NotATiming) as error:
                outcomes[index] = error
                continue
            size += len(encode_json(run.params)) + (run.workflow_yaml_bytes or 0)
            if size >= _PIECE_BYTES:
                break
            await trio.lowlevel.checkpoint()
        submitted = await self._submitter.submit_all([*runs.values()], within=_SUBMIT_SECONDS)
        outcomes.update(zip(runs, submitted, strict=True))
        return [outcomes[index] for index in range(len(outcomes))]

    async def _record(
        self, schedule: Schedule, tick: int, now: float, outcome: Accepted | Exception
    ) -> TickRecord | Exception:
        run_id = schedule.run_id_of(tick)
        match outcome:
            case Accepted():
                run_id = outcome.run_id
            case KeyReused():
                # Submitted before the schedule was changed, by somebody who could not write it down any more.
                try:
                    if run_id not in await self.statuses([run_id]):
                        return _refused(schedule, tick, now, outcome)
                except BridgeError as error:
                    return error
            case RunTooLarge() | FlowNotKept() | ModelError() | NestedTooDeeply():
                return _refused(schedule, tick, now, outcome)
            case _:
                return outcome
        return TickRecord(tick=tick, outcome=TickOutcome.RUN, decided_at=now, run_id=run_id)

    async def run_of(
        self, schedule: Schedule, tick: int, brought: FlowFile | None = None
    ) -> NewRun:
        """The run of a tick: always with the same id.

        Args:
            schedule: The schedule.
            tick: The tick.
            brought: The schedule's flow.yaml where it is not kept yet.

        Raises:
            FlowNotKept: The flow.yaml is gone.
            FlowFileError: It cannot be taken (any more).
            NotATiming: This machine does not know its time zone.
            BridgeError: NATS could not be asked for it.
        """
        spec = schedule.spec
        values = values_of(
            schedule.schedule_id, spec.name or schedule.schedule_id, spec.timezone, tick
        )
        params = fill_in(spec.params, values)
        limits = RunLimits(**limits_in(spec))
        file = brought
        if file is None and spec.workflow_yaml_sha256 is not None:
            file = await self._file(spec.workflow_yaml_sha256)
        if file is not None:
            params = {**file.defaults, **params}
            limits = limits.over(file.limits)
        return NewRun(
            spec.flow_name,
            spec.tag,
            tuple(spec.tags),
            params,
            workflow_yaml=None if file is None else file.text,
            workflow_yaml_sha256=spec.workflow_yaml_sha256,
            workflow_yaml_bytes=spec.workflow_yaml_bytes,
            tenant_id=schedule.tenant_id,
            api_key_id=schedule.api_key_id,
            **limits_in(limits),
            idempotency_key=f"{KEY_SPACE}:{schedule.schedule_id}:{tick}",
            key_space=KEY_SPACE,
            run_id=schedule.run_id_of(tick),
            timing=Timing(**{name: getattr(spec, name) for name in SPAN_FIELDS}),
            schedule_id=schedule.schedule_id,
            scheduled_at=float(tick),
        )

    async def check(self, schedule: Schedule, tick: int, brought: FlowFile | None) -> None:
        """Look whether the runs of a schedule are small enough; takes what `run_of` takes.

        Raises:
            RunTooLarge: They are not.
            BridgeError: NATS could not be asked for its flow.yaml.
        """
        with suppress(FlowNotKept, FlowFileError):
            self._submitter.check(await self.run_of(schedule, tick, brought))

    async def going_on(self, run_ids: Sequence[str]) -> list[str]:
        """Those of the runs that have not ended.

        Raises:
            BridgeError: NATS could not be asked.
        """
        statuses = await self.statuses(run_ids)
        return [
            run_id for run_id in run_ids if run_id in statuses and not statuses[run_id].terminal
        ]

    async def statuses(self, run_ids: Sequence[str]) -> dict[str, RunStatus]:
        """Where those of the runs stand that are there.

        Raises:
            BridgeError: NATS could not be asked.
        """
        found: dict[str, RunStatus] = {}

        async def look(run_id: str) -> None:
            try:
                found[run_id] = (await self._runs.get(run_id)).snapshot.status
            except RunNotFound:
                return
            except UnreadableSnapshot:
                # There it is, and nobody goes on with it.
                found[run_id] = RunStatus.FAILED

        await for_each(run_ids, look, _READ_AT_ONCE)
        return found

    async def cancel(self, schedule: Schedule, run_ids: Sequence[str]) -> None:
        """Cancel runs in favour of a later tick.

        Raises:
            Refusal: One could not be.
        """
        for run_id in run_ids:
            request = RecordCancel(
                run_id,
                by=f"schedule:{schedule.schedule_id}",
                reason="the next tick of its schedule is due",
            )
            try:
                await self._canceller.ask(request, within=_SUBMIT_SECONDS)
            except RunNotFound:
                continue

    async def _file(self, sha256: str) -> FlowFile:
        file = self._files.get(sha256)
        if file is None:
            text = await self._texts.get(sha256)
            if text is None:
                raise FlowNotKept(f"the flow.yaml {sha256} that the schedule brought is not kept")
            raw = text.encode()
            with no_thread_is(NotComputed(NO_THREAD)):
                file = await read_aside(
                    len(raw), partial(parse_flow_yaml, raw, max_bytes=self._max_yaml_bytes)
                )
            self._files[sha256] = file
            while len(self._files) > _FILES_KEPT:
                self._files.popitem(last=False)
        return file


def _refused(schedule: Schedule, tick: int, now: float, refusal: Exception) -> TickRecord:
    log.warning("tick has no run", schedule_id=schedule.schedule_id, tick=tick, reason=str(refusal))
    return TickRecord(
        tick=tick, outcome=TickOutcome.REFUSED, decided_at=now, reason=str(refusal)[:500]
    )
