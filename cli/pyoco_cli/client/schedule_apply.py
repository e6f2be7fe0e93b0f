"""`schedule apply`: the schedules of a file, as a whole, so that they are kept where the file is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from pyoco_cli.client.app import OutputOption, show
from pyoco_cli.client.connection import gateway
from pyoco_cli.common.errors import CliError
from pyoco_cli.common.language import Phrase
from pyoco_cli.common.parameters import read_text
from pyoco_server.model.errors import ErrorId, InvalidField
from pyoco_server.model.schedules.schedule import SAID_FIELDS, check_schedule_id

if TYPE_CHECKING:
    from pyoco_server.client import HttpProblem, PyocoHttpClient
    from pyoco_server.client.answers import ScheduledTickDict

DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]

_EXAMPLE = 'schedules: {nightly: {flow_name: main, cron: "30 2 * * *", timezone: Asia/Tokyo}}'


@dataclass(frozen=True, slots=True)
class ScheduleStep:
    """What is to be done with one schedule.

    Attributes:
        schedule_id: Which.
        action: What.
        changes: Of each field that differs, what it was and what it is to be.
        fields: What the file says.
        ticks: Its next ones.
    """

    schedule_id: str
    action: Literal["create", "update", "delete", "keep"]
    changes: dict[str, tuple[Any, Any]]
    fields: dict[str, Any]
    ticks: list[ScheduledTickDict]


def apply(
    context: typer.Context,
    *,
    file: Annotated[
        Path, typer.Option("-f", "--file", metavar="FILE", help="YAML with `schedules:`.")
    ],
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete schedules that the file does not have.")
    ] = False,
    label: Annotated[
        str | None,
        typer.Option(metavar="NAME=VALUE", help="With --prune: only those with that label."),
    ] = None,
    dry_run: DryRun = False,
    output: OutputOption = None,
) -> None:
    """Make schedules what a file says. Nothing is changed where anything in it is wrong.

    Applied again, it changes nothing. A schedule whose `paused` the file does not say stays as it is.
    """
    if label is not None and not label.partition("=")[0].strip():
        raise CliError(
            f"--label takes NAME=VALUE, not {label[:80]!r}", hint="--prune --label team=etl"
        )
    wanted = _read(file)
    with gateway(context) as client:
        steps = list(_plan(client, wanted, prune=prune, label=label))
        for step in steps:
            if step.action in {"create", "update"} and not step.ticks:
                typer.echo(f"{step.schedule_id}: {Phrase.NEVER_DUE}", err=True)
        if not dry_run:
            for step in steps:
                _carry_out(client, step)
    document = {
        "dry_run": dry_run,
        "items": [
            {
                "schedule_id": step.schedule_id,
                "action": step.action,
                "changes": {
                    name: {"from": old, "to": new} for name, (old, new) in step.changes.items()
                },
                "next": [tick["local"] for tick in step.ticks],
            }
            for step in steps
        ],
    }
    show(document, output, "schedule_views:applied")


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """The schedules of a file by their ids.

    Raises:
        CliError: It cannot be read, or is none.
    """
    # Here, because the help of all commands needs none.
    import yaml  # noqa: PLC0415

    from pyoco_cli.common.yaml_text import load_yaml  # noqa: PLC0415

    try:
        document = load_yaml(read_text(path, "--file"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _wrong(f"{path} is no YAML: {error}") from None
    found = document.get("schedules") if isinstance(document, dict) else None
    if isinstance(found, list) and all(isinstance(item, dict) for item in found):
        named = [(str(item.get("schedule_id") or ""), item) for item in found]
        if doubled := {name for name, _ in named if [n for n, _ in named].count(name) > 1}:
            raise _wrong(f"{path} has {', '.join(sorted(doubled))} twice")
        found = dict(named)
    if (
        not isinstance(found, dict)
        or document.keys() != {"schedules"}
        or not all(isinstance(item, dict) for item in found.values())
    ):
        raise _wrong(f"{path} takes `schedules:` by their ids, and nothing else")
    if "" in found:
        raise _wrong(f"{path} has a schedule without schedule_id")
    return {str(name): _fields_of(item, path) for name, item in found.items()}


def _fields_of(item: dict[str, Any], path: Path) -> dict[str, Any]:
    if "count" in item:  # which a preview takes
        raise _wrong(f"{path}: a schedule has no count")
    fields = {str(name): _plain(value) for name, value in item.items() if name != "schedule_id"}
    if (brought := fields.pop("workflow_file", None)) is not None:
        fields["workflow_yaml"] = read_text(path.parent / str(brought), "workflow_file")
        fields.setdefault("flow_name", "main")  # as `schedule create` has it
    return fields


def _plain(value: Any) -> Any:
    """A value of YAML as JSON has it."""
    match value:
        case datetime() | date():
            return value.isoformat()
        case dict():
            return {str(name): _plain(item) for name, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case _:
            return value


def _plan(
    client: PyocoHttpClient, wanted: dict[str, dict[str, Any]], *, prune: bool, label: str | None
) -> Iterator[ScheduleStep]:
    """What is to be done, by id.

    Raises:
        CliError: A schedule of the file cannot be one.
    """
    from pyoco_server.client import HttpProblem  # noqa: PLC0415 - httpx, see connection.py

    there = {found["schedule_id"]: found for found in client.all_schedules()}
    for schedule_id, fields in sorted(wanted.items()):
        try:
            check_schedule_id(schedule_id)
            before = there.get(schedule_id)
            preview = client.preview_schedule(None if before is None else schedule_id, **fields)
        except InvalidField as error:
            raise _wrong(f"schedule {schedule_id}: {error}") from None
        except HttpProblem as error:
            if error.status not in {413, 422}:
                raise
            raise _wrong(f"schedule {schedule_id}: {_said(error)}") from None
        if before is None:
            yield ScheduleStep(schedule_id, "create", {}, fields, preview["ticks"])
            continue
        spec = {name: value for name, value in preview["spec"].items() if name in SAID_FIELDS}
        if fields.get("paused") is not None:
            spec["paused"] = fields["paused"]
        changes = {
            name: (before.get(name), value)
            for name, value in spec.items()
            if before.get(name) != value
        }
        yield ScheduleStep(
            schedule_id, "update" if changes else "keep", changes, fields, preview["ticks"]
        )
    if prune:
        scope = there.values() if label is None else client.all_schedules(label=label)
        for found in scope:
            if found["schedule_id"] not in wanted:
                yield ScheduleStep(found["schedule_id"], "delete", {}, {}, [])


def _said(problem: HttpProblem) -> str:
    why = str(problem.extra.get("reason") or "")
    return problem.detail if why in problem.detail else f"{problem.detail}: {why}"


def _carry_out(client: PyocoHttpClient, step: ScheduleStep) -> None:
    match step.action:
        case "create" | "update":
            client.put_schedule(step.schedule_id, **step.fields)
        case "delete":
            client.delete_schedule(step.schedule_id)
        case "keep":
            return


def _wrong(reason: str) -> CliError:
    return CliError(reason, hint=_EXAMPLE, error_id=ErrorId.INVALID_INPUT)
