"""Checks of the work queue's consumers, and of the dead letters."""

from __future__ import annotations

import trio

from pyoco_server.jetstream.inventory import ConsumerInfo, list_consumers
from pyoco_server.model.counted import counted
from pyoco_server.model.worker import effective_state
from pyoco_server.operations.doctor.finding import Finding, Severity
from pyoco_server.operations.doctor.look import Look

# A worker that asks may be between two requests.
_AGAIN_SECONDS = 1.5


async def check_queues(look: Look) -> list[Finding]:
    """Look for jobs that nobody takes."""
    findings: list[Finding] = []
    suspects: list[str] = []
    for tag, jobs in sorted(look.queued.items()):
        consumer = look.consumer_of(tag)
        if consumer is None:
            findings.append(
                Finding(
                    check="queues.no_consumer",
                    severity=Severity.WARNING,
                    what=f"{counted(jobs, 'job waits', 'jobs wait')}, and no worker ever came for that tag",
                    where=f"tag {tag}",
                    advice=f"start one: pyoco-worker --tags {tag}",
                )
            )
        elif not consumer.paused and _unasked(consumer):
            suspects.append(consumer.name)
    findings += _delayed_for_nobody(look)
    findings += [found for consumer in look.consumers for found in _own_state(consumer)]
    if suspects:
        await trio.sleep(_AGAIN_SECONDS)
        before = {consumer.name: consumer for consumer in look.consumers}
        for now in await list_consumers(look.connection, look.settings.work_stream):
            then = before.get(now.name)
            if now.name in suspects and then is not None and _unasked(now):
                findings += _stuck(then, now, look)
    return [*findings, *_dead_letters(look)]


def _delayed_for_nobody(look: Look) -> list[Finding]:
    """Runs that wait for their time, of tags whose queues are empty by now: nobody would notice before."""
    timeout = look.settings.worker_disconnect_timeout_sec
    served = {
        tag
        for worker, _ in look.workers
        if effective_state(worker, look.now, timeout).active
        for tag in worker.tags
    }
    return [
        Finding(
            check="queues.delayed",
            severity=Severity.WARNING,
            what=f"{counted(jobs, 'run waits for its', 'runs wait for their')} time, "
            "and no worker is there for that tag",
            where=f"tag {tag}",
            advice=f"start one in time: pyoco-worker --tags {tag}",
        )
        for tag, jobs in sorted(look.delayed.items())
        if tag not in served and not look.queued[tag]
    ]


def _unasked(consumer: ConsumerInfo) -> bool:
    return consumer.num_pending > 0 and not consumer.num_waiting and not consumer.num_ack_pending


def _stuck(then: ConsumerInfo, now: ConsumerInfo, look: Look) -> list[Finding]:
    if now.delivered.stream_seq != then.delivered.stream_seq:
        return []
    tag = now.name.removeprefix(f"{look.settings.consumer_prefix}_")
    return [
        Finding(
            check="queues.stuck",
            severity=Severity.WARNING,
            what=f"{counted(now.num_pending, 'job waits', 'jobs wait')}, and no worker asks for any",
            where=f"tag {tag}",
            advice=f"start a worker (pyoco-worker --tags {tag}), or look at the log of those that run",
        )
    ]


def _own_state(consumer: ConsumerInfo) -> list[Finding]:
    findings = []
    if consumer.paused:
        findings.append(
            Finding(
                check="queues.paused",
                severity=Severity.WARNING,
                what=f"it is paused; {counted(consumer.num_pending, 'job waits', 'jobs wait')}",
                where=consumer.name,
                advice="resume it when the reason is gone",
            )
        )
    limit = int(consumer.config.get("max_ack_pending") or 0)
    if limit > 0 and consumer.num_ack_pending >= limit and consumer.num_pending:
        findings.append(
            Finding(
                check="queues.full",
                severity=Severity.WARNING,
                what=f"{counted(limit, 'job is', 'jobs are')} being executed, which is its limit; "
                f"{counted(consumer.num_pending, 'more waits', 'more wait')}",
                where=consumer.name,
                advice="raise PYOCO_CONSUMER_MAX_ACK_PENDING, or find out why runs take so long",
            )
        )
    return findings


def _dead_letters(look: Look) -> list[Finding]:
    stream = look.streams.get(look.settings.dlq_stream)
    if stream is None or not stream.state.messages:
        return []
    return [
        Finding(
            check="queues.dead_letters",
            severity=Severity.WARNING,
            what=counted(stream.state.messages, "dead letter"),
            where=stream.name,
            advice="read them, then queue them again or delete them: pyoco-client dlq list",
        )
    ]
