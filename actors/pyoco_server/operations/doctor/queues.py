"""Checks of the work queue's consumers, and of the dead letters."""

from __future__ import annotations

from collections.abc import Iterator

import trio

from pyoco_server.jetstream.inventory import ConsumerInfo, list_consumers
from pyoco_server.model.counted import counted
from pyoco_server.operations.doctor.finding import Finding, Severity
from pyoco_server.operations.doctor.look import Look

# A worker that asks may be between two requests.
_AGAIN_SECONDS = 1.5


async def check_queues(look: Look) -> list[Finding]:
    """Look for jobs that nobody takes."""
    return [
        *_without_consumer(look),
        *_delayed_for_nobody(look),
        *(found for consumer in look.consumers for found in _own_state(consumer)),
        *await _stuck(look),
        *_dead_letters(look),
    ]


def _without_consumer(look: Look) -> Iterator[Finding]:
    for tag, jobs in sorted(look.queued.items()):
        if look.consumer_of(tag) is None:
            yield Finding(
                check="queues.no_consumer",
                severity=Severity.WARNING,
                what=f"{counted(jobs, 'job waits', 'jobs wait')}, and no worker ever came for that tag",
                where=f"tag {tag}",
                advice=f"start one: pyoco-worker --tags {tag}",
            )


def _delayed_for_nobody(look: Look) -> Iterator[Finding]:
    """Runs that wait for their time, of tags whose queues are empty by now: nobody would notice before."""
    served = look.served
    for tag, jobs in sorted(look.delayed.items()):
        if tag not in served and not look.queued[tag]:
            yield Finding(
                check="queues.delayed",
                severity=Severity.WARNING,
                what=f"{counted(jobs, 'run waits for its', 'runs wait for their')} time, "
                "and no worker is there for that tag",
                where=f"tag {tag}",
                advice=f"start one in time: pyoco-worker --tags {tag}",
            )


async def _stuck(look: Look) -> list[Finding]:
    """Queues whose jobs nobody asks for, now and a moment later."""
    suspects = {
        consumer.name: tag
        for tag in sorted(look.queued)
        if (consumer := look.consumer_of(tag)) and not consumer.paused and _unasked(consumer)
    }
    if not suspects:
        return []
    await trio.sleep(_AGAIN_SECONDS)
    before = {consumer.name: consumer.delivered.stream_seq for consumer in look.consumers}
    return [
        Finding(
            check="queues.stuck",
            severity=Severity.WARNING,
            what=f"{counted(now.num_pending, 'job waits', 'jobs wait')}, and no worker asks for any",
            where=f"tag {suspects[now.name]}",
            advice=f"start a worker (pyoco-worker --tags {suspects[now.name]}), or look at the log of those "
            "that run",
        )
        for now in await list_consumers(look.connection, look.settings.work_stream)
        if now.name in suspects and _unasked(now) and now.delivered.stream_seq == before[now.name]
    ]


def _unasked(consumer: ConsumerInfo) -> bool:
    return consumer.num_pending > 0 and not consumer.num_waiting and not consumer.num_ack_pending


def _own_state(consumer: ConsumerInfo) -> Iterator[Finding]:
    if consumer.paused:
        yield Finding(
            check="queues.paused",
            severity=Severity.WARNING,
            what=f"it is paused; {counted(consumer.num_pending, 'job waits', 'jobs wait')}",
            where=consumer.name,
            advice="resume it when the reason is gone",
        )
    limit = int(consumer.config.get("max_ack_pending") or 0)
    if limit > 0 and consumer.num_ack_pending >= limit and consumer.num_pending:
        yield Finding(
            check="queues.full",
            severity=Severity.WARNING,
            what=f"{counted(limit, 'job is', 'jobs are')} being executed, which is its limit; "
            f"{counted(consumer.num_pending, 'more waits', 'more wait')}",
            where=consumer.name,
            advice="raise PYOCO_CONSUMER_MAX_ACK_PENDING, or find out why runs take so long",
        )


def _dead_letters(look: Look) -> Iterator[Finding]:
    stream = look.streams.get(look.settings.dlq_stream)
    if stream is not None and stream.state.messages:
        yield Finding(
            check="queues.dead_letters",
            severity=Severity.WARNING,
            what=counted(stream.state.messages, "dead letter"),
            where=stream.name,
            advice="read them, then queue them again or delete them: pyoco-client dlq list",
        )
