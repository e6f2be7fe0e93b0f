"""Checks of workers and of the runs they should be executing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from pyoco_server.model.counted import counted
from pyoco_server.model.run import RunSnapshot, RunStatus
from pyoco_server.model.worker import WorkerState
from pyoco_server.operations.doctor.finding import Finding, Severity
from pyoco_server.operations.doctor.look import Look
from pyoco_server.operations.doctor.nats import SKEW_SECONDS

# A run is stored a moment before its job is.
_SETTLED_SECONDS = 10.0
_NAMED = 5


async def check_workers(look: Look) -> list[Finding]:
    """Look for workers that are silent, whose clock is off, or that take no runs."""
    return [*_silent(look), *_ordered(look), *_resting(look)]


def _silent(look: Look) -> Iterator[Finding]:
    for record, entry in look.workers:
        if look.state_of(record) is WorkerState.DISCONNECTED and not record.hidden:
            yield Finding(
                check="workers.silent",
                severity=Severity.WARNING,
                what=f"no sign of life for {look.now - record.last_seen_at:.0f} s, "
                "and it did not say that it stops",
                where=f"worker {record.worker_id}",
                advice="look at its machine and log; hide it when it is gone for good: "
                f"PATCH /workers/{record.worker_id} with hidden: true",
            )
        # The record holds the worker's time, the entry that of NATS, of the same moment.
        elif record.state.active and abs(record.updated_at - entry.created) >= SKEW_SECONDS:
            yield Finding(
                check="workers.clock",
                severity=Severity.WARNING,
                what=f"its clock differs from that of NATS by {record.updated_at - entry.created:+.1f} s",
                where=f"worker {record.worker_id}",
                advice="synchronise its clock (NTP): times of tasks are by it",
            )


def _ordered(look: Look) -> Iterator[Finding]:
    """Workers that an operator told to take no jobs; a pause outlives the worker, and is forgotten easily."""
    for record, _ in look.workers:
        if look.state_of(record).active and (record.paused or record.draining):
            waited_for = any(look.queued.get(tag) for tag in record.tags)
            yield Finding(
                check="workers.draining" if record.draining else "workers.paused",
                severity=Severity.WARNING if waited_for else Severity.INFO,
                what="it was told to end its runs and to stop"
                if record.draining
                else "it is paused and takes no jobs",
                where=f"worker {record.worker_id}",
                advice=f"when it shall go on: pyoco-client worker-resume {record.worker_id}",
            )


def _resting(look: Look) -> Iterator[Finding]:
    """Workers whose slots take no runs since the machine lacks what that takes."""
    for record, _ in look.workers:
        resting = [slot.resting for slot in record.slots if slot.resting]
        if resting and look.state_of(record).active:
            yield Finding(
                check="workers.resting",
                severity=Severity.WARNING,
                what=f"{len(resting)} of {counted(len(record.slots), 'slot takes', 'slots take')} no runs "
                f"for now: {resting[0]}",
                where=f"worker {record.worker_id}",
                advice="give it what it lacks: processes and threads (ulimit -u, TasksMax= of systemd, "
                "pids_limit of a container), memory or room on the disk; it goes on by itself",
            )


async def check_runs(look: Look) -> list[Finding]:
    """Look for runs that nobody works at, and that nobody will."""
    if look.runs is None:
        return [
            Finding(
                check="runs.unread",
                severity=Severity.INFO,
                what="there are too many runs to read them all",
                where=look.settings.runs_kv_bucket,
                advice="let old ones expire: PYOCO_RUNS_TTL_SEC",
            )
        ]
    return [*_abandoned(look, look.runs), *_without_job(look, look.runs)]


def _abandoned(look: Look, runs: list[RunSnapshot]) -> Iterator[Finding]:
    there = {
        record.worker_id: record.instance_id
        for record, _ in look.workers
        if look.state_of(record) in {WorkerState.RUNNING, WorkerState.IDLE}
    }
    # Within the ack wait the job is not even delivered again.
    patience = look.settings.consumer_ack_wait_sec + _SETTLED_SECONDS
    lost: defaultdict[str, list[str]] = defaultdict(list)
    for run in runs:
        if run.status not in {RunStatus.RUNNING, RunStatus.CANCELLING} or run.worker_id is None:
            continue
        held = run.worker_id in there and run.worker_instance_id in {None, there[run.worker_id]}
        if not held and look.now - _last_sign(run) > patience:
            lost[run.worker_id or "(none)"].append(run.run_id)
    for worker_id, run_ids in lost.items():
        yield Finding(
            check="runs.abandoned",
            severity=Severity.ERROR,
            what=f"{counted(len(run_ids), 'run is', 'runs are')} RUNNING "
            f"at a worker that is gone: {_names(run_ids)}",
            where=f"worker {worker_id}",
            advice="a worker of their tags takes them over where their jobs are still queued; "
            "cancel the rest: pyoco-client cancel RUN_ID",
        )


def _without_job(look: Look, runs: list[RunSnapshot]) -> Iterator[Finding]:
    unfinished = Counter(
        run.tag or look.settings.default_tag
        for run in runs
        if not run.status.terminal and look.now - _last_sign(run) > _SETTLED_SECONDS
    )
    jobs = look.queued + look.delayed
    for tag, count in sorted(unfinished.items()):
        if count > jobs[tag]:
            yield Finding(
                check="runs.no_job",
                severity=Severity.ERROR,
                what=f"at least {count - jobs[tag]} of "
                f"{counted(count, 'unfinished run has', 'unfinished runs have')} no job in the queue: "
                "nobody will execute them",
                where=f"tag {tag}",
                advice="cancel them and submit them again: pyoco-client list --status PENDING "
                f"--tag {tag}",
            )


def _last_sign(run: RunSnapshot) -> float:
    return max(run.heartbeat_at or 0.0, run.updated_at or 0.0, run.submitted_at or 0.0)


def _names(run_ids: list[str]) -> str:
    more = f" and {len(run_ids) - _NAMED} more" if len(run_ids) > _NAMED else ""
    return ", ".join(sorted(run_ids)[:_NAMED]) + more
