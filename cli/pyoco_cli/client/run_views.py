"""How people see runs, what they left, and their dead letters."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.text import Text

from pyoco_cli.client.drawing import (
    Fitted,
    done,
    facts,
    first_line,
    line,
    listing,
    panel,
    styled,
    table,
    text,
    with_cursor,
)
from pyoco_cli.client.words import age, moment, progress_text
from pyoco_cli.common.output import printable
from pyoco_server.model.counted import counted

_BAR_COLUMNS = 20


def submitted(answer: dict[str, Any]) -> RenderableType:
    """A run that was just taken."""
    due = answer.get("scheduled_for") if answer.get("state") == "SCHEDULED" else None
    when = f" for {moment(due)}" if due else ""
    return done("submitted", answer.get("run_id"), "  ", _state(answer), when)


def run_panel(snapshot: dict[str, Any]) -> RenderableType:
    """One run, with its tasks."""
    told = facts(
        ("flow", snapshot.get("flow_name")),
        ("tag", snapshot.get("tag")),
        ("worker", snapshot.get("worker_id")),
        ("started", moment(snapshot.get("start_time"))),
        ("took", _span(snapshot.get("start_time"), snapshot.get("end_time"))),
        ("changed", moment(snapshot.get("updated_at"))),
        ("attempt", _attempt(snapshot)),
        ("took of the machine", _usage(snapshot.get("usage") or {})),
        ("limits", _limits(snapshot)),
        ("next attempt", moment(snapshot.get("next_attempt_at"))),
        ("scheduled for", moment(snapshot.get("scheduled_for"))),
        ("expires", moment(snapshot.get("expires_at"))),
        ("cancel reason", snapshot.get("cancel_reason")),
        ("wheels", _wheels(snapshot)),
        ("artifacts", len(snapshot.get("artifacts") or []) or None),
        ("reason", snapshot.get("reason")),
        ("failed tasks", ", ".join(snapshot.get("failed_tasks") or [])),
        ("error", snapshot.get("error")),
    )
    more: list[RenderableType] = [*not_kept(snapshot)]
    if snapshot.get("tasks"):
        more += [tasks_table(snapshot), *_tracebacks(snapshot)]
    if snapshot.get("attempts"):
        more.append(_attempts_table(snapshot["attempts"]))
    title = Text.assemble(text(snapshot.get("run_id")), "  ", _state(snapshot))
    return panel(title, snapshot, told, *more)


def _wheels(snapshot: dict[str, Any]) -> str:
    wheels = snapshot.get("wheels") or []
    return ", ".join(f"{wheel.get('name')} {wheel.get('version')}" for wheel in wheels)


def _attempt(snapshot: dict[str, Any]) -> str:
    most = snapshot.get("max_attempts")
    number = snapshot.get("attempt") or 0
    return f"{number} of {most}" if most is not None else str(number) if number > 1 else ""


def _memory(usage: dict[str, Any]) -> str:
    peak = usage.get("peak_memory_bytes")
    return "" if peak is None else f"{peak / 1024**2:.0f} MB"


def _processor(usage: dict[str, Any]) -> str:
    taken = usage.get("cpu_sec")
    return "" if taken is None else f"{taken:.2f} s"


def _usage(usage: dict[str, Any]) -> str:
    parts = (_memory(usage) + " of memory", _processor(usage) + " of processor time")
    return ", ".join(part for part in parts if not part.startswith(" "))


def _limits(snapshot: dict[str, Any]) -> str:
    """What an attempt may take."""
    units = {"timeout_sec": "s", "memory_mb": "MB of memory", "cpu_sec": "s of processor time"}
    given = {name: snapshot.get(name) for name in units}
    return ", ".join(f"{value:g} {units[name]}" for name, value in given.items() if value)


def _attempts_table(attempts: Sequence[dict[str, Any]]) -> RenderableType:
    """The attempts before the present one."""
    spans = [_span(each.get("started_at"), each.get("ended_at")) for each in attempts]
    return table(
        {
            "attempt": [text(each.get("attempt")) for each in attempts],
            "worker": [text(each.get("worker_id")) for each in attempts],
            "took": [text(span or "") for span in spans],
            "memory": [text(_memory(each)) for each in attempts],
            "processor": [text(_processor(each)) for each in attempts],
            "reason": [text(each.get("reason") or "") for each in attempts],
            "error": [text(each.get("error") or "", longest=60) for each in attempts],
        }
    )


def progress_cells(progress: Mapping[str, Any]) -> tuple[RenderableType, RenderableType]:
    """How far a task is: a bar, where it told of how much there is to do, and the same in words."""
    total, done = progress.get("total"), progress.get("done") or 0
    bar: RenderableType = Text()
    if total and total > 0:
        bar = ProgressBar(total=total, completed=min(max(done, 0), total), width=_BAR_COLUMNS)
    return bar, Text(progress_text(progress))


def tasks_view(run: dict[str, Any]) -> RenderableType:
    """The tasks of a run, and where those that failed did."""
    return Group(tasks_table(run), *_tracebacks(run))


def _tracebacks(run: dict[str, Any]) -> list[RenderableType]:
    return [
        Text.assemble((f"\n{printable(name)}\n", "bold"), printable(where).rstrip())
        for name, record in (run.get("task_records") or {}).items()
        if record.get("state") == "FAILED" and (where := _where(record))
    ]


def _where(record: dict[str, Any]) -> str:
    """Where a task failed: in which line of its code, and at which times in a loop."""
    failed = [
        f"{times.get('path')}: {times.get('error')}"
        for times in record.get("iterations") or []
        if times.get("state") == "FAILED" and times.get("error")
    ]
    return "\n".join([*failed, record.get("traceback") or ""]).rstrip()


def tasks_table(run: dict[str, Any]) -> RenderableType:
    """The tasks of a run."""
    states, records = run.get("tasks") or {}, run.get("task_records") or {}
    told = {name: records.get(name) or {} for name in states}
    columns = {
        "task": [text(name) for name in states],
        "state": [styled(state) for state in states.values()],
    }
    if records:
        columns["took"] = [Text(_took(record)) for record in told.values()]
        if any(each.get("tries") or each.get("iteration_counts") for each in records.values()):
            columns["tries"] = [Text(_tries(record)) for record in told.values()]
        results = [_result(record, states[name]) for name, record in told.items()]
        columns["result"] = [text(result, longest=200) for result in results]
    return table(columns)


def _took(record: dict[str, Any]) -> str:
    took = record.get("duration_ms")
    return "" if took is None else f"{took / 1000:.2f} s"


def _tries(record: dict[str, Any]) -> str:
    """How often a task was tried, or how its times in a loop ended."""
    counts = record.get("iteration_counts") or {}
    tries = record.get("tries") or []
    parts = [f"{count} {state}" for state, count in counts.items()]
    if tries:
        parts.append(counted(int(tries[-1].get("number") or len(tries)), "try", "tries"))
    return ", ".join(parts)


def _result(record: dict[str, Any], state: object) -> object:
    """How far a task is, or what came of it."""
    if state == "RUNNING" and record.get("progress"):
        return progress_text(record["progress"])
    # Of values beyond JSON, their form says more than their repr.
    output = (record.get("result") or {}).get("value", record.get("output"))
    result = record.get("error") or output
    return "" if result is None else result


def runs_table(runs: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Runs, one a line."""
    columns = {
        "run": [text(run.get("run_id")) for run in runs],
        "status": [_state(run) for run in runs],
        "changed": [Text(f"{age(run.get('updated_at'))} ago") for run in runs],
        "flow": [first_line(run.get("flow_name")) for run in runs],
        "worker": [first_line(run.get("worker_id")) for run in runs],
        "tag": [first_line(run.get("tag")) for run in runs],
        "error": [first_line(run.get("error") or _failed_tasks(run)) for run in runs],
    }
    return Fitted(columns, last=("changed",), spare=("worker", "tag"), nothing="no runs")


def _failed_tasks(run: Mapping[str, Any]) -> str:
    failed = run.get("failed_tasks") or []
    return f"failed tasks: {', '.join(failed)}" if failed else ""


def artifacts_table(found: dict[str, Any]) -> RenderableType:
    """What a run saved, one a line; then what was not kept."""
    artifacts = found.get("artifacts") or []
    columns = {
        "artifact": [text(artifact.get("name")) for artifact in artifacts],
        "bytes": [text(artifact.get("size_bytes")) for artifact in artifacts],
        "task": [line(artifact.get("task") or "") for artifact in artifacts],
        "sha256": [line(artifact.get("sha256_hex")) for artifact in artifacts],
    }
    return Group(listing(columns, "no artifacts"), *not_kept(found))


def not_kept(run: Mapping[str, Any]) -> list[Text]:
    """The artifacts of a run that were refused, a line each, and why."""
    return [
        Text(printable(f"not kept: {refused.get('name')}: {refused.get('reason')}"), "yellow")
        for refused in run.get("artifacts_refused") or []
    ]


def fetched(files: Sequence[dict[str, Any]]) -> RenderableType:
    """Artifacts that were fetched just now."""
    lines = [done("fetched", file.get("path")) for file in files]
    return Group(*lines) if lines else Text("(no artifacts)", "dim")


def results_table(found: dict[str, Any]) -> RenderableType:
    """What the tasks of a run returned, one a line; then what is not all of it, or was not kept."""
    results = found.get("results") or []
    columns = {
        "task": [text(result.get("task")) for result in results],
        "bytes": [text(result.get("size_bytes")) for result in results],
        "kind": [text(result.get("media_type")) for result in results],
        "sha256": [line(result.get("sha256_hex") or "") for result in results],
    }
    said = [
        Text(printable(f"{what}: {result.get('task')}: {why}"), "yellow")
        for result in results
        for what, why in (("not kept", result.get("refused")), ("cut", result.get("cut")))
        if why
    ]
    return Group(listing(columns, "no results"), *said)


def letters_page(page: dict[str, Any]) -> RenderableType:
    """Dead letters, one a line, and where the next page starts."""
    letters = page["items"]
    columns = {
        "seq": [text(letter.get("seq")) for letter in letters],
        "reason": [text(letter.get("reason")) for letter in letters],
        "age": [Text(age(letter.get("timestamp"))) for letter in letters],
        "run": [text(letter.get("run_id")) for letter in letters],
        "flow": [first_line(letter.get("flow_name")) for letter in letters],
        "error": [first_line(letter.get("error") or "") for letter in letters],
    }
    return with_cursor(Fitted(columns, last=("flow", "age"), nothing="no dead letters"), page)


def letter(found: dict[str, Any]) -> RenderableType:
    """A dead letter; ``found`` also has the ``task_records`` of its run, where they are kept."""
    told = facts(
        ("run", found.get("run_id")),
        ("flow", found.get("flow_name")),
        ("tag", found.get("tag")),
        ("worker", found.get("worker_id")),
        ("written", moment(found.get("timestamp"))),
        ("deliveries", found.get("num_delivered")),
        ("subject", found.get("subject")),
        ("error", found.get("error")),
        ("message", found.get("payload")),
    )
    title = Text.assemble(
        "dead letter ", text(found.get("seq")), "  ", (text(found.get("reason")).plain, "red")
    )
    return panel(title, found, told, *_tracebacks(found))


def _span(start: object, end: object) -> str | None:
    if not isinstance(start, (int, float)):
        return None
    until = end if isinstance(end, (int, float)) else time.time()
    return f"{max(0.0, until - start):.1f} s"


def _state(run: Mapping[str, Any]) -> Text:
    state = styled(run.get("state") or run.get("status"))
    late = [what for what, is_so in (run.get("late") or {}).items() if is_so]
    return Text.assemble(state, (f" late {'+'.join(late)}", "yellow")) if late else state
