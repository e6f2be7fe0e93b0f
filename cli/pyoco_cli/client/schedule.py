"""`schedule …`: what runs when."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from pyoco_cli.client.app import OutputOption, draw, show
from pyoco_cli.client.connection import gateway
from pyoco_cli.client.schedule_apply import apply
from pyoco_cli.client.submit import (
    Attempts,
    Backoff,
    Cpu,
    Follow,
    Memory,
    Patience,
    Timeout,
    Wait,
    stay,
)
from pyoco_cli.client.times import EndWithin, QueueTtl, StartWithin
from pyoco_cli.common.errors import CliError
from pyoco_cli.common.formats import OutputFormat, chosen
from pyoco_cli.common.moments import span
from pyoco_cli.common.parameters import Param, Params, ParamsFile, collect_params, read_text
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.schedules.schedule import CatchUp, Overlap

schedule = typer.Typer(help="Schedules: what runs when.")
schedule.command("apply")(apply)

_SPEC_FIELDS = (
    "flow_name",
    "name",
    "tag",
    "tags",
    "params",
    "workflow_yaml_sha256",
    "cron",
    "every_sec",
    "rrule",
    "at",
    "timezone",
    "jitter_sec",
    "start_at",
    "end_at",
    "overlap",
    "catch_up",
    "catch_up_limit",
    "timeout_sec",
    "max_attempts",
    "retry_backoff_sec",
    "memory_mb",
    "cpu_sec",
    "queue_ttl_sec",
    "expected_start_within_sec",
    "expected_end_within_sec",
    "labels",
)

ScheduleId: TypeAlias = Annotated[
    str, typer.Argument(metavar="SCHEDULE_ID", help="Id of the schedule.")
]
FlowName: TypeAlias = Annotated[str | None, typer.Option(help="Flow that the workers know.")]
FlowFileOption: TypeAlias = Annotated[
    Path | None, typer.Option("--workflow-file", metavar="FILE", help="A flow.yaml to bring.")
]
Name: TypeAlias = Annotated[str | None, typer.Option(help="What people call it.")]
TagOption: TypeAlias = Annotated[str | None, typer.Option("--tag", help="Where runs go.")]
Cron: TypeAlias = Annotated[
    str | None, typer.Option(help="Five fields, or six with the second first: '30 2 * * *'.")
]
Every: TypeAlias = Annotated[str | None, typer.Option(help="A span: 90s, 5m, 1h30m, 1d.")]
Rule: TypeAlias = Annotated[
    str | None, typer.Option("--rrule", help="A recurrence rule: 'FREQ=MONTHLY;BYDAY=-1FR'.")
]
At: TypeAlias = Annotated[
    list[str] | None, typer.Option("--at", metavar="TIME", help="A moment; may be repeated.")
]
Zone: TypeAlias = Annotated[
    str | None, typer.Option("--timezone", help="IANA time zone, such as Asia/Tokyo.")
]
Jitter: TypeAlias = Annotated[
    float | None, typer.Option("--jitter-sec", help="Up to so much later, always as much.")
]
Start: TypeAlias = Annotated[
    str | None, typer.Option("--start-at", metavar="TIME", help="No tick before it.")
]
End: TypeAlias = Annotated[
    str | None, typer.Option("--end-at", metavar="TIME", help="No tick after it.")
]
OverlapOption: TypeAlias = Annotated[
    Overlap | None, typer.Option("--overlap", help="What becomes of a tick while a run goes on.")
]
CatchUpOption: TypeAlias = Annotated[
    CatchUp | None, typer.Option("--catch-up", help="Which ticks are made up for after an outage.")
]
CatchUpLimit: TypeAlias = Annotated[
    int | None, typer.Option("--catch-up-limit", help="How many at most, with all.")
]
Labels: TypeAlias = Annotated[
    list[str] | None, typer.Option("--label", metavar="NAME=VALUE", help="May be repeated.")
]
DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]


class Which(StrEnum):
    """Which schedules a list is narrowed to."""

    PAUSED = "paused"
    ACTIVE = "active"


@schedule.command("list")
def list_schedules(
    context: typer.Context,
    *,
    flow: Annotated[str | None, typer.Option(help="Only those of that flow.")] = None,
    tag: TagOption = None,
    state: Annotated[Which | None, typer.Option(help="Only paused ones, or only others.")] = None,
    label: Annotated[
        str | None, typer.Option(metavar="NAME=VALUE", help="Only those with that label.")
    ] = None,
    text: Annotated[str | None, typer.Option(help="Only with it in their id or name.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, max=500, help="How many, 1 to 500.")] = None,
    cursor: Annotated[
        str | None, typer.Option(help="Where to go on: next_cursor of the page before.")
    ] = None,
    output: OutputOption = None,
) -> None:
    """List schedules, by id."""
    paused = None if state is None else state is Which.PAUSED
    with gateway(context) as client:
        page = client.list_schedules(
            flow=flow, tag=tag, paused=paused, label=label, q=text, limit=limit, cursor=cursor
        )
    show(
        page,
        output,
        "schedule_views:schedules_page",
        columns=("schedule_id", "state", "flow_name", "tag"),
    )


@schedule.command("show")
def show_schedule(
    context: typer.Context, schedule_id: ScheduleId, output: OutputOption = None
) -> None:
    """Show a schedule, its next ticks and what became of its last ones."""
    with gateway(context) as client:
        found = client.get_schedule(schedule_id)
        if chosen(output) is not OutputFormat.TABLE:
            show(found, output)
            return
        ticks = client.next_ticks(schedule_id)["ticks"]
        draw("schedule_views:whole", found, ticks, client.past_ticks(schedule_id)["items"])


@schedule.command("create")
def create(
    context: typer.Context,
    schedule_id: ScheduleId,
    *,
    flow_name: FlowName = None,
    workflow_file: FlowFileOption = None,
    name: Name = None,
    tag: TagOption = None,
    params: Params = None,
    params_file: ParamsFile = None,
    param: Param = None,
    cron: Cron = None,
    every: Every = None,
    rrule: Rule = None,
    at: At = None,
    timezone: Zone = None,
    jitter_sec: Jitter = None,
    start_at: Start = None,
    end_at: End = None,
    overlap: OverlapOption = None,
    catch_up: CatchUpOption = None,
    catch_up_limit: CatchUpLimit = None,
    timeout_sec: Timeout = None,
    max_attempts: Attempts = None,
    retry_backoff_sec: Backoff = None,
    memory_mb: Memory = None,
    cpu_sec: Cpu = None,
    queue_ttl_sec: QueueTtl = None,
    expected_start_within_sec: StartWithin = None,
    expected_end_within_sec: EndWithin = None,
    label: Labels = None,
    paused: Annotated[bool, typer.Option("--paused", help="Make it paused.")] = False,
    dry_run: DryRun = False,
    output: OutputOption = None,
) -> None:
    """Make a schedule; its next five ticks are shown before that."""
    fields = _fields(
        flow_name=flow_name or "main",
        workflow_file=workflow_file,
        name=name,
        tag=tag,
        params=collect_params(params_file, params, param) or None,
        cron=cron,
        every=every,
        rrule=rrule,
        at=at,
        timezone=timezone,
        jitter_sec=jitter_sec,
        start_at=start_at,
        end_at=end_at,
        overlap=overlap,
        catch_up=catch_up,
        catch_up_limit=catch_up_limit,
        timeout_sec=timeout_sec,
        max_attempts=max_attempts,
        retry_backoff_sec=retry_backoff_sec,
        memory_mb=memory_mb,
        cpu_sec=cpu_sec,
        queue_ttl_sec=queue_ttl_sec,
        expected_start_within_sec=expected_start_within_sec,
        expected_end_within_sec=expected_end_within_sec,
        label=label,
    )
    with gateway(context) as client:
        preview = client.preview_schedule(**fields)
        if dry_run:
            show(preview, output, "schedule_views:ticks_to_come")
            return
        _show_ticks(preview)
        made = client.create_schedule(schedule_id, **fields, paused=paused)
    show(made, output, "schedule_views:schedule_line")


@schedule.command("update")
def update(
    context: typer.Context,
    schedule_id: ScheduleId,
    *,
    flow_name: FlowName = None,
    workflow_file: FlowFileOption = None,
    name: Name = None,
    tag: TagOption = None,
    params: Params = None,
    params_file: ParamsFile = None,
    param: Param = None,
    cron: Cron = None,
    every: Every = None,
    rrule: Rule = None,
    at: At = None,
    timezone: Zone = None,
    jitter_sec: Jitter = None,
    start_at: Start = None,
    end_at: End = None,
    overlap: OverlapOption = None,
    catch_up: CatchUpOption = None,
    catch_up_limit: CatchUpLimit = None,
    timeout_sec: Timeout = None,
    max_attempts: Attempts = None,
    retry_backoff_sec: Backoff = None,
    memory_mb: Memory = None,
    cpu_sec: Cpu = None,
    queue_ttl_sec: QueueTtl = None,
    expected_start_within_sec: StartWithin = None,
    expected_end_within_sec: EndWithin = None,
    label: Labels = None,
    dry_run: DryRun = False,
    output: OutputOption = None,
) -> None:
    """Change what is said of a schedule; its next five ticks are shown before that."""
    fields = _fields(
        flow_name=flow_name,
        workflow_file=workflow_file,
        name=name,
        tag=tag,
        params=collect_params(params_file, params, param) or None,
        cron=cron,
        every=every,
        rrule=rrule,
        at=at,
        timezone=timezone,
        jitter_sec=jitter_sec,
        start_at=start_at,
        end_at=end_at,
        overlap=overlap,
        catch_up=catch_up,
        catch_up_limit=catch_up_limit,
        timeout_sec=timeout_sec,
        max_attempts=max_attempts,
        retry_backoff_sec=retry_backoff_sec,
        memory_mb=memory_mb,
        cpu_sec=cpu_sec,
        queue_ttl_sec=queue_ttl_sec,
        expected_start_within_sec=expected_start_within_sec,
        expected_end_within_sec=expected_end_within_sec,
        label=label,
    )
    if not fields:
        raise CliError(
            ErrorId.INVALID_COMMAND_LINE, "nothing is to be changed", hint="schedule update -h"
        )
    with gateway(context) as client:
        preview = client.preview_schedule(**_merged(client.get_schedule(schedule_id), fields))
        if dry_run:
            show(preview, output, "schedule_views:ticks_to_come")
            return
        _show_ticks(preview)
        changed = client.update_schedule(schedule_id, **fields)
    show(changed, output, "schedule_views:schedule_line")


@schedule.command("delete")
def delete(context: typer.Context, schedule_id: ScheduleId, output: OutputOption = None) -> None:
    """Delete a schedule; its runs stay."""
    with gateway(context) as client:
        answer = client.delete_schedule(schedule_id)
    show(answer, output)


@schedule.command("pause")
def pause(context: typer.Context, schedule_id: ScheduleId, output: OutputOption = None) -> None:
    """Let no tick of a schedule have a run until it is resumed."""
    with gateway(context) as client:
        answer = client.pause_schedule(schedule_id)
    show(answer, output, "schedule_views:schedule_line")


@schedule.command("resume")
def resume(context: typer.Context, schedule_id: ScheduleId, output: OutputOption = None) -> None:
    """Go on with the ticks of a schedule from now on."""
    with gateway(context) as client:
        answer = client.resume_schedule(schedule_id)
    show(answer, output, "schedule_views:schedule_line")


@schedule.command("trigger")
def trigger(
    context: typer.Context,
    schedule_id: ScheduleId,
    *,
    wait: Wait = False,
    follow: Follow = False,
    wait_timeout_sec: Patience = None,
    output: OutputOption = None,
) -> int:
    """Submit a run of a schedule now, beside its ticks."""
    with gateway(context) as client:
        answer = client.trigger_schedule(schedule_id)
        return stay(client, answer, output, wait=wait, follow=follow, seconds=wait_timeout_sec)


@schedule.command("backfill")
def backfill(
    context: typer.Context,
    schedule_id: ScheduleId,
    *,
    begin: Annotated[
        str, typer.Option("--from", metavar="TIME", help="First moment, by the schedule's clocks.")
    ],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="Last moment.")],
    limit: Annotated[
        int | None, typer.Option(min=1, max=1000, help="How many ticks at most; 100 unless said.")
    ] = None,
    dry_run: DryRun = False,
    output: OutputOption = None,
) -> int:
    """Submit the runs of past ticks that have none; repeated, it makes no second ones."""
    with gateway(context) as client:
        answer = client.backfill_schedule(
            schedule_id, _moment(begin), _moment(end), limit=limit, dry_run=dry_run
        )
    show(answer, output, "schedule_views:backfilled")
    return 1 if any(item["outcome"] == "failed" for item in answer["items"]) else 0


@schedule.command("next")
def coming(
    context: typer.Context,
    schedule_id: ScheduleId,
    *,
    count: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 5,
    output: OutputOption = None,
) -> None:
    """Show the next ticks of a schedule."""
    with gateway(context) as client:
        answer = client.next_ticks(schedule_id, count=count)
    show(answer, output, "schedule_views:ticks_to_come", items=lambda found: found["ticks"])


@schedule.command("ticks")
def past(context: typer.Context, schedule_id: ScheduleId, output: OutputOption = None) -> None:
    """Show what became of the last ticks of a schedule, and of their runs."""
    with gateway(context) as client:
        answer = client.past_ticks(schedule_id)
    show(answer, output, "schedule_views:past_ticks")


def _show_ticks(preview: dict[str, Any]) -> None:
    """The next ticks, beside what the command gives."""
    lines = [f"next: {tick['local']}" for tick in preview["ticks"]] or ["next: never"]
    typer.echo("\n".join(lines), err=True)


def _fields(
    *,
    workflow_file: Path | None,
    every: str | None,
    label: list[str] | None,
    at: list[str] | None,
    start_at: str | None,
    end_at: str | None,
    **others: Any,
) -> dict[str, Any]:
    """The fields of what was said.

    Raises:
        CliError: Something cannot be understood.
    """
    fields = {name: value for name, value in others.items() if value is not None}
    if workflow_file is not None:
        fields["workflow_yaml"] = read_text(workflow_file, "--workflow-file")
    if every is not None:
        seconds = span(every) if not every.isdigit() else float(every)
        if seconds is None:
            raise CliError(
                ErrorId.INVALID_COMMAND_LINE,
                f"--every {every[:40]!r} is no span",
                hint="90s, 5m, 1d",
            )
        fields["every_sec"] = seconds
    if label is not None:
        pairs = [text.partition("=") for text in label]
        fields["labels"] = {name: value for name, _, value in pairs}
    if at:
        fields["at"] = [_moment(text) for text in at]
    for name, text in (("start_at", start_at), ("end_at", end_at)):
        if text is not None:
            fields[name] = _moment(text)
    return fields


def _moment(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _merged(before: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """What a schedule is with some fields changed, as a preview takes it."""
    timing = {"cron", "every_sec", "rrule", "at"}
    kept = {name: before.get(name) for name in _SPEC_FIELDS}
    if timing & fields.keys():
        kept |= dict.fromkeys(timing)
    if "workflow_yaml" in fields:
        kept.pop("workflow_yaml_sha256")
    return kept | fields
