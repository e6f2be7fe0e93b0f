"""The work queue beside its consumers: finding, removing and queueing again the job of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import msgspec
from msgspec.structs import replace as with_fields

from pyoco_server.jetstream.connection import Connection
from pyoco_server.jetstream.errors import ApiError, NotFound
from pyoco_server.jetstream.inventory import (
    ConsumerInfo,
    consumer_info,
    stream_info,
    stream_state,
    subjects_of,
)
from pyoco_server.jetstream.publish import Publication, delayed, publish
from pyoco_server.jetstream.stored import (
    StoredMessage,
    delete_message,
    get_message,
    last_message,
)
from pyoco_server.jetstream.together import for_each
from pyoco_server.model.job import Job, encode_job
from pyoco_server.settings import Settings

# Clocks of a cluster's servers differ, and so do those of gateways.
_SKEW_SECONDS: Final = 0.25
_SEARCHED: Final = 500
_LANES: Final = 16
_LATER: Final = "later"


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A job's message.

    Attributes:
        sequence: Where it is in the stream.
        run_id: Of which run; empty where it cannot be read.
        subject: What it was published to.
        tag: The tag that it is queued for.
        delayed: Whether it is held back, and no worker can have it yet.
        data: Its bytes.
    """

    sequence: int
    run_id: str
    subject: str
    tag: str
    delayed: bool
    data: bytes


class _RunOf(msgspec.Struct):
    run_id: str = ""


class JobQueue:
    """The stream of jobs that the settings name.

    A job is under ``<work_subject_prefix>.<tag>``, or as long as it is held back under
    ``<work_subject_prefix>.<tag>.later.<run_id>``. The consumer of a tag is ``<consumer_prefix>_<tag>``.

    Each call raises a `BridgeError` where NATS refused or could not be asked; what it writes may be written
    or not.
    """

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self._connection = connection
        self._stream = settings.work_stream
        self._prefix = settings.work_subject_prefix
        self._consumers = settings.consumer_prefix
        # The connection on which the server was found to hold jobs back.
        self._holds_back_on = -1

    async def put_again(self, job: Job, sequence: int) -> None:
        """Queue a fresh copy of a job, whose deliveries are counted from one again.

        It replaces the one at ``sequence``; trying that again makes no second one.
        """
        msg_id = f"{job.run_id}:{sequence}"
        await publish(self._connection, self.publication(job, encode_job(job), msg_id=msg_id))

    async def put_later(self, job: Job, wait_sec: float, *, next_attempt_at: float | None) -> bool:
        """Have a job queued behind the others when a wait is over; until then it is nobody's delivery.

        It replaces one of that run that is held back already. The wait is measured by the server.

        Args:
            job: The job.
            wait_sec: The wait, in seconds.
            next_attempt_at: What the run's snapshot says of it.

        Returns:
            False where the server cannot do that, or has no room: nothing is stored.
        """
        info = await stream_info(self._connection, self._stream)
        if info is None or info.ts is None or not info.holds_back:
            return False
        at = (info.ts + timedelta(seconds=wait_sec)).timestamp()
        try:
            await self.put_at(with_fields(job, next_attempt_at=next_attempt_at), at)
        except ApiError:
            return False
        return True

    async def put_at(self, job: Job, at: float) -> None:
        """Have a job queued at a time, in unix seconds; one that has passed means now.

        It replaces one of that run that is held back already. Ask `can_hold_back` before.
        """
        await publish(self._connection, self.publication(job, encode_job(job), at=at))

    def publication(
        self, job: Job, payload: bytes, *, at: float | None = None, msg_id: str | None = None
    ) -> Publication:
        """The message that queues a job, now or ``at`` a time (`put_at`), whose bytes these are.

        With a ``msg_id``, a repetition of it is harmless.
        """
        subject = f"{self._prefix}.{job.tag}"
        if at is None:
            return Publication(subject, payload, msg_id)
        return delayed(f"{subject}.{_LATER}.{job.run_id}", subject, payload, at, msg_id=msg_id)

    async def can_hold_back(self) -> bool:
        """Whether the server holds jobs back; those before 2.12 cannot. Asked once a connection."""
        epoch = self._connection.epoch
        if self._holds_back_on != epoch:
            info = await stream_info(self._connection, self._stream)
            if info is None or not info.holds_back:
                return False
            self._holds_back_on = epoch
        return True

    async def held_back_runs(self) -> frozenset[str]:
        """The runs whose jobs are held back."""
        pattern = f"{self._prefix}.*.{_LATER}.>"
        subjects = await subjects_of(self._connection, self._stream, pattern)
        return frozenset(
            subject.removeprefix(f"{self._prefix}.").split(".", 2)[2] for subject in subjects
        )

    async def find_delayed(self, run_id: str, tag: str) -> QueuedJob | None:
        """The job of a run while it is held back."""
        subject = f"{self._prefix}.{tag}.{_LATER}.{run_id}"
        message = await last_message(self._connection, self._stream, subject)
        return None if message is None else self._queued(message)

    async def get(self, sequence: int) -> QueuedJob | None:
        """Read the job at a sequence; None where there is none any more."""
        message = await get_message(self._connection, self._stream, sequence)
        return None if message is None else self._queued(message)

    async def consumer(self, tag: str) -> ConsumerInfo | None:
        """How far the queue of a tag is; None where no worker has ever asked for it."""
        try:
            return await consumer_info(self._connection, self._stream, f"{self._consumers}_{tag}")
        except NotFound:
            return None

    async def remove(self, sequence: int) -> None:
        """Delete a job; nothing happens where it is gone."""
        await delete_message(self._connection, self._stream, sequence)

    async def find(self, run_id: str, tag: str, *, queued_at: float) -> QueuedJob | None:
        """Find the job of a run by when it was queued, in about log2(queue length) reads.

        It may be missed where clocks differ by much; it is never another run's. ``queued_at`` is a moment
        shortly before, in unix seconds.
        """
        subject = f"{self._prefix}.{tag}"
        sequence = await self._first_since(queued_at - _SKEW_SECONDS, subject)
        for _ in range(_SEARCHED):
            message = await get_message(self._connection, self._stream, sequence, next_of=subject)
            if message is None:
                return None
            queued = self._queued(message)
            if queued.run_id == run_id:
                return queued
            sequence = message.sequence + 1
        return None

    async def _first_since(self, moment: float, subject: str) -> int:
        """The sequence from which on messages of a subject were stored after a moment."""
        state = await stream_state(self._connection, self._stream)
        low, high = state.first_seq, state.last_seq + 1
        while low < high:
            middle = (low + high) // 2
            message = await get_message(self._connection, self._stream, middle, next_of=subject)
            if message is None or message.stored_at >= moment:
                high = middle
            else:
                low = message.sequence + 1
        return low

    async def contents(self) -> list[QueuedJob]:
        """Every job without its bytes; one that comes or goes meanwhile may be seen or not."""
        state = await stream_state(self._connection, self._stream)
        found: list[QueuedJob] = []
        pattern = f"{self._prefix}.>"

        async def read(lane: range) -> None:
            at = lane.start
            while at in lane:
                message = await get_message(self._connection, self._stream, at, next_of=pattern)
                if message is None or message.sequence not in lane:
                    return
                found.append(replace(self._queued(message), data=b""))
                at = message.sequence + 1

        if state.messages:
            end = state.last_seq + 1
            span = (end - state.first_seq) // _LANES + 1
            firsts = range(state.first_seq, end, span)
            lanes = [range(first, min(first + span, end)) for first in firsts]
            await for_each(lanes, read, _LANES)
        return found

    def _queued(self, message: StoredMessage) -> QueuedJob:
        try:
            run_id = msgspec.json.decode(message.data, type=_RunOf).run_id
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            run_id = ""
        tag, delayed = _read_subject(message.subject, self._prefix)
        return QueuedJob(message.sequence, run_id, message.subject, tag, delayed, message.data)


def jobs_by_tag(
    subjects: Mapping[str, int], subject_prefix: str
) -> tuple[Counter[str], Counter[str]]:
    """Add up the jobs of each tag, those that workers can have and those that are held back.

    ``subjects`` says how many messages the queue holds under each of its subjects.
    """
    queued: Counter[str] = Counter()
    held_back: Counter[str] = Counter()
    for subject, count in subjects.items():
        tag, delayed = _read_subject(subject, subject_prefix)
        (held_back if delayed else queued)[tag] += count
    return queued, held_back


def _read_subject(subject: str, prefix: str) -> tuple[str, bool]:
    """The tag of a job, which is one token, and whether the job is held back."""
    tag, _, rest = subject.removeprefix(f"{prefix}.").partition(".")
    return tag, bool(rest)
