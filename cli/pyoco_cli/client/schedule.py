"""`schedule …`: what runs when."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypedDict

import typer

from pyoco_cli.client.app import CursorOption, OutputOption, draw, show
from pyoco_cli.client.connection import gateway
from pyoco_cli.client.schedule_apply import DryRun, apply
from pyoco_cli.client.submit import LimitOptions, StayOptions, stay
from pyoco_cli.client.times import EndWithin, QueueTtl, StartWithin
from pyoco_cli.common.errors import CliError
from pyoco_cli.common.formats import OutputFormat, chosen
from pyoco_cli.common.language import Phrase
from pyoco_cli.common.moments import span
from pyoco_cli.common.option_groups import with_options
from pyoco_cli.common.parameters import ParamOptions, collect_params, read_text
from pyoco_server.model.schedules.schedule import (
    SAID_FIELDS,
    TIMING_FIELDS,
    CatchUp,
    Overlap,
)

schedule = typer.Typer(help="Schedules: what runs when.")
schedule.command("apply")(apply)

ScheduleId: TypeAlias = Annotated[
    str, typer.Argument(metavar="SCHEDULE_ID", help="Id of the schedule.")
]


class _FlowOptions(TypedDict):
    """What a schedule runs."""

    flow_name: Annotated[str | None, typer.Option(help="Flow that the workers know.")]
    workflow_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A flow.yaml to bring.")
    ]
    name: Annotated[str | None, typer.Option(help="What people call it.")]
    tag: Annotated[str | None, typer.Option(help="Tag that its runs go to.")]


class _TickOptions(TypedDict):
    """When."""

    cron: Annotated[
        str | None,
        typer.Option(help="Five fields, or six with the second first: '30 2 * * *'; or @daily."),
    ]
    every: Annotated[str | None, typer.Option(help="A span: 90s, 5m, 1h30m, 1d.")]
    rrule: Annotated[str | None, typer.Option(help="A recurrence rule: 'FREQ=MONTHLY;BYDAY=-1FR'.")]
    at: Annotated[list[str] | None, typer.Option(metavar="TIME", help="A moment; may be repeated.")]
    timezone: Annotated[str | None, typer.Option(help="IANA time zone, such as Asia/Tokyo.")]
    jitter_sec: Annotated[float | None, typer.Option(help="Up to so much later, always as much.")]
    start_at: Annotated[str | None, typer.Option(metavar="TIME", help="No tick before it.")]
    end_at: Annotated[str | None, typer.Option(metavar="TIME", help="No tick after it.")]
    overlap: Annotated[
        Overlap | None, typer.Option(help="What becomes of a tick while a run goes on.")
    ]
    catch_up: Annotated[
        CatchUp | None, typer.Option(help="Which ticks are made up for after an outage.")
    ]
    catch_up_limit: Annotated[int | None, typer.Option(help="How many at most, with all.")]


class ScheduleOptions(_FlowOptions, ParamOptions, _TickOptions, LimitOptions):
    """What can be said of a schedule."""

    queue_ttl_sec: QueueTtl
    expected_start_within_sec: StartWithin
    expected_end_within_sec: EndWithin
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label", metavar="NAME=VALUE", help="A word about it, to find it by; may be repeated."
        ),
    ]


class Which(StrEnum):
    """Which schedules a list is narrowed to."""

    PAUSED = "paused"
    ACTIVE = "active"


@schedule.command("list")
def list_schedules(
    context: typer.Context,
    *,
    flow: Annotated[str | None, typer.Option(help="Only those of that flow.")] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Only those of that tag.")] = None,
    state: Annotated[Which | None, typer.Option(help="Only paused ones, or only others.")] = None,
    label: Annotated[
        str | None, typer.Option(metavar="NAME=VALUE", help="Only those with that label.")
    ] = None,
    text: Annotated[str | None, typer.Option(help="Only with it in their id or name.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, max=500, help="How many, 1 to 500.")] = None,
    cursor: CursorOption = None,
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
@with_options(said=ScheduleOptions)
def create(
    context: typer.Context,
    schedule_id: ScheduleId,
    *,
    said: ScheduleOptions,
    paused: Annotated[bool, typer.Option("--paused", help="Make it paused.")] = False,
    dry_run: DryRun = False,
    output: OutputOption = None,
) -> None:
    """Make a schedule; its next five ticks are shown before that."""
    fields = _fields(said)
    fields["flow_name"] = fields.get("flow_name") or "main"
    with gateway(context) as client:
        preview = client.preview_schedule(**fields)
        if dry_run:
            show(preview, output, "schedule_views:ticks_to_come")
            return
        _show_ticks(preview)
        made = client.create_schedule(schedule_id, **fields, paused=paused)
    show(made, output, "schedule_views:schedule_line")


@schedule.command("update")
@with_options(said=ScheduleOptions)
def update(
    context: typer.Context,
    schedule_id: ScheduleId,
    *,
    said: ScheduleOptions,
    dry_run: DryRun = False,
    output: OutputOption = None,
) -> None:
    """Change what is said of a schedule; its next five ticks are shown before that."""
    fields = _fields(said)
    if not fields:
        raise CliError("nothing is to be changed", hint="schedule update -h")
    with gateway(context) as client:
        merged = _merged(client.get_schedule(schedule_id), fields)
        preview = client.preview_schedule(schedule_id, **merged)
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
    show(answer, output, "gone")


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
@with_options(staying=StayOptions)
def trigger(
    context: typer.Context,
    schedule_id: ScheduleId,
    *,
    staying: StayOptions,
    output: OutputOption = None,
) -> int:
    """Submit a run of a schedule now, beside its ticks."""
    with gateway(context) as client:
        answer = client.trigger_schedule(schedule_id)
        return stay(client, answer, output, staying)


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


def _show_ticks(preview: Mapping[str, Any]) -> None:
    """The next ticks, beside what the command gives."""
    lines = [f"next: {tick['local']}" for tick in preview["ticks"]] or [str(Phrase.NEVER_DUE)]
    typer.echo("\n".join(lines), err=True)


def _fields(said: ScheduleOptions) -> dict[str, Any]:
    """The fields of what was said.

    Raises:
        CliError: Something cannot be understood.
    """
    fields: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    given = {name: fields.pop(name, None) for name in ParamOptions.__annotations__}
    if any(value is not None for value in given.values()):
        fields["params"] = collect_params(**given)
    if (file := fields.pop("workflow_file", None)) is not None:
        fields["workflow_yaml"] = read_text(file, "--workflow-file")
    if (every := fields.pop("every", None)) is not None:
        seconds = span(every) if not every.isdecimal() else float(every)
        if seconds is None:
            raise CliError(f"--every {every[:40]!r} is no span", hint="90s, 5m, 1d")
        fields["every_sec"] = seconds
    if (labels := fields.pop("label", None)) is not None:
        pairs = [text.partition("=") for text in labels]
        fields["labels"] = {name: value for name, _, value in pairs}
    if moments := fields.pop("at", None):
        fields["at"] = [_moment(text) for text in moments]
    for name in ("start_at", "end_at"):
        if name in fields:
            fields[name] = _moment(fields[name])
    return fields


def _moment(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _merged(before: Mapping[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """What a schedule is with some fields changed, as a preview takes it."""
    kept = {name: before.get(name) for name in SAID_FIELDS}
    if fields.keys() & set(TIMING_FIELDS):
        kept |= dict.fromkeys(TIMING_FIELDS)
    if "workflow_yaml" in fields:
        kept.pop("workflow_yaml_sha256")
    return kept | fields
