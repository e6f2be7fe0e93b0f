"""Checks of workers and of the runs they should be executing."""

from __future__ import annotations

from collections import Counter, defaultdict

from pyoco_server.model.counted import counted
from pyoco_server.model.run import RunSnapshot, RunStatus
from pyoco_server.model.worker import WorkerRecord, WorkerState, effective_state
from pyoco_server.operations.doctor.finding import Finding, Severity
from pyoco_server.operations.doctor.look import Look
from pyoco_server.operations.doctor.nats import SKEW_SECONDS

# A run is stored a moment before its job is.
_SETTLED_SECONDS = 10.0
_NAMED = 5


async def check_workers(look: Look) -> list[Finding]:
    """Look for workers that are silent, or whose clock is off."""
    findings = []
    for record, entry in look.workers:
        if _state(record, look) is WorkerState.DISCONNECTED:
            findings.append(
                Finding(
                    check="workers.silent",
                    severity=Severity.WARNING,
                    what=f"no sign of life for {look.now - record.last_seen_at:.0f} s, "
                    "and it did not say that it stops",
                    where=f"worker {record.worker_id}",
                    advice="look at its machine and log; hide it when it is gone for good: "
                    f"PATCH /workers/{record.worker_id} with hidden: true",
                )
            )
        # The record holds the worker's time, the entry that of NATS, of the same moment.
        elif record.state.active and abs(record.updated_at - entry.created) >= SKEW_SECONDS:
            findings.append(
                Finding(
                    check="workers.clock",
                    severity=Severity.WARNING,
                    what=f"its clock differs from that of NATS by "
                    f"{record.updated_at - entry.created:+.1f} s",
                    where=f"worker {record.worker_id}",
                    advice="synchronise its clock (NTP): times of tasks are by it",
                )
            )
    return [*findings, *_ordered(look), *_resting(look)]


def _ordered(look: Look) -> list[Finding]:
    """Workers that an operator told to take no jobs; a pause outlives the worker, and is forgotten easily."""
    return [
        Finding(
            check="workers.draining" if record.draining else "workers.paused",
            severity=Severity.WARNING
            if any(look.queued.get(tag) for tag in record.tags)
            else Severity.INFO,
            what="it was told to end its runs and to stop"
            if record.draining
            else "it is paused and takes no jobs",
            where=f"worker {record.worker_id}",
            advice=f"when it shall go on: pyoco-client worker-resume {record.worker_id}",
        )
        for record, _ in look.workers
        if _state(record, look).active and (record.paused or record.draining)
    ]


def _resting(look: Look) -> list[Finding]:
    """Workers whose slots take no runs since the machine lacks what that takes."""
    return [
        Finding(
            check="workers.resting",
            severity=Severity.WARNING,
            what=f"{len(resting)} of {counted(len(record.slots), 'slot takes', 'slots take')} no runs "
            f"for now: {resting[0]}",
            where=f"worker {record.worker_id}",
            advice="give it what it lacks: processes and threads (ulimit -u, TasksMax= of systemd, "
            "pids_limit of a container), memory or room on the disk; it goes on by itself",
        )
        for record, _ in look.workers
        if _state(record, look).active
        and (resting := [slot.resting for slot in record.slots if slot.resting])
    ]


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
    return [*_abandoned(look), *_without_job(look)]


def _abandoned(look: Look) -> list[Finding]:
    there = {
        record.worker_id: record
        for record, _ in look.workers
        if _state(record, look) in {WorkerState.RUNNING, WorkerState.IDLE}
    }
    # Within the ack wait the job is not even delivered again.
    patience = look.settings.consumer_ack_wait_sec + _SETTLED_SECONDS
    lost: defaultdict[str, list[str]] = defaultdict(list)
    for run in look.runs or ():
        worker = there.get(run.worker_id or "")
        held = worker is not None and run.worker_instance_id in {None, worker.instance_id}
        if _executing(run) and not held and look.now - _last_sign(run) > patience:
            lost[run.worker_id or "(none)"].append(run.run_id)
    return [
        Finding(
            check="runs.abandoned",
            severity=Severity.ERROR,
            what=f"{counted(len(run_ids), 'run is', 'runs are')} RUNNING "
            f"at a worker that is gone: {_names(run_ids)}",
            where=f"worker {worker_id}",
            advice="a worker of their tags takes them over where their jobs are still queued; "
            "cancel the rest: pyoco-client cancel RUN_ID",
        )
        for worker_id, run_ids in lost.items()
    ]


def _without_job(look: Look) -> list[Finding]:
    unfinished: Counter[str] = Counter()
    for run in look.runs or ():
        if not run.status.terminal and look.now - _last_sign(run) > _SETTLED_SECONDS:
            unfinished[run.tag or look.settings.default_tag] += 1
    jobs = look.queued + look.delayed
    return [
        Finding(
            check="runs.no_job",
            severity=Severity.ERROR,
            what=f"at least {count - jobs[tag]} of "
            f"{counted(count, 'unfinished run has', 'unfinished runs have')} no job in the queue: "
            "nobody will execute them",
            where=f"tag {tag}",
            advice="cancel them and submit them again: pyoco-client list --status PENDING "
            f"--tag {tag}",
        )
        for tag, count in sorted(unfinished.items())
        if count > jobs[tag]
    ]


def _state(record: WorkerRecord, look: Look) -> WorkerState:
    return effective_state(record, look.now, look.settings.worker_disconnect_timeout_sec)


def _executing(run: RunSnapshot) -> bool:
    return run.status in {RunStatus.RUNNING, RunStatus.CANCELLING} and run.worker_id is not None


def _last_sign(run: RunSnapshot) -> float:
    return max(run.heartbeat_at or 0.0, run.updated_at or 0.0, run.submitted_at or 0.0)


def _names(run_ids: list[str]) -> str:
    more = f" and {len(run_ids) - _NAMED} more" if len(run_ids) > _NAMED else ""
    return ", ".join(sorted(run_ids)[:_NAMED]) + more
