"""What people see of runs and letters, on screens of any width."""

from __future__ import annotations

import re
import time
from typing import Any

import msgspec
import pytest
from rich.console import Console, RenderableType

from http_api.seeding import snapshot
from pyoco_cli.client.run_views import (
    artifacts_table,
    letters_page,
    results_table,
    run_panel,
    runs_table,
    submitted,
    tasks_view,
)
from pyoco_cli.client.schedule_views import backfilled, past_ticks, schedules_page, when
from pyoco_cli.client.top_view import run_table
from pyoco_cli.client.views import history_table, wheels_table, workers_table
from pyoco_cli.client.words import moment
from pyoco_cli.server.results import print_result
from pyoco_server.model.run import RunSnapshot

ID = "06111963-9448-4488-9914-5ef694a39dab"
ERROR = "timeout: the attempt did not end within 1 s and was terminated (SIGTERM)"


def lines(view: RenderableType, width: int = 100) -> list[str]:
    console = Console(width=width)
    with console.capture() as captured:
        console.print(view)
    return captured.get().splitlines()


@pytest.mark.parametrize("width", [*range(70, 170, 10), 400])
def test_an_error_takes_the_room_that_the_other_columns_leave(width: int) -> None:
    letter = {
        "seq": 4, "reason": "timeout", "timestamp": 0, "run_id": ID, "flow_name": "main", "error": ERROR
    }  # fmt: skip
    head, line = lines(letters_page({"items": [letter]}), width)
    assert head.split()[:5] == ["seq", "reason", "age", "run", "flow"]
    assert line.startswith("4    timeout  ")
    assert f"  {ID}  main" in line

    run = {"run_id": ID, "state": "FAILED", "updated_at": 0, "flow_name": "main", "error": ERROR}
    head, line = lines(runs_table([run]), width)
    assert head.split()[:4] == ["run", "status", "changed", "flow"]
    assert line.startswith(f"{ID}  FAILED  ")


def test_a_backfill_tells_why_a_tick_failed() -> None:
    local = "2026-11-29T09:34:06+00:00"
    failed = {"local": local, "outcome": "failed", "run_id": ID, "reason": ERROR}
    filled = {"local": local, "outcome": "submitted", "run_id": ID, "reason": None}
    told = lines(backfilled({"items": [failed, filled], "more": False}), 80)
    assert len(told) == 5
    assert " ".join(line.strip() for line in told[3:]) == f"{local}: {ERROR}"


@pytest.mark.parametrize("width", [80, 90, 100, 110, 160])
def test_what_became_of_ticks_is_whole(width: int) -> None:
    went = {
        "local": "2026-11-29T09:34:06+00:00", "outcome": "run", "run_id": ID, "status": "COMPLETED"
    }  # fmt: skip
    why = "a run of the schedule goes on, and overlap is skip"
    left = {"local": "2026-11-29T09:34:08+00:00", "outcome": "skipped", "reason": why}
    head, run, skipped = lines(past_ticks({"items": [went, left]}), width)
    assert head.split()[:3] == ["tick", "outcome", "run"]
    assert run.startswith(f"2026-11-29T09:34:06+00:00  run      {ID}")
    assert skipped.startswith("2026-11-29T09:34:08+00:00  skipped  -")
    assert (why in skipped) == (width == 160)


def test_a_run_that_waits_for_its_time_says_until_when() -> None:
    answer = {"run_id": ID, "status": "PENDING", "state": "SCHEDULED", "scheduled_for": 1798761600}
    assert lines(submitted(answer)) == [f"submitted {ID}  SCHEDULED for {moment(1798761600)}"]
    answer |= {"state": "PENDING"}
    assert lines(submitted(answer)) == [f"submitted {ID}  PENDING"]


def test_a_schedule_of_one_moment_says_which() -> None:
    assert when({"at": [1798761600]}) == f"at {moment(1798761600)}"
    assert when({"at": [1798761600, 1798761660]}) == "2 moments"


def test_a_schedule_of_a_zone_that_is_known_elsewhere_is_listed() -> None:
    item: dict[str, Any] = {
        "schedule_id": "s",
        "state": "active",
        "cron": "0 2 * * *",
        "flow_name": "main",
    }
    item |= {"timezone": "Mars/X", "next_tick_at": 1798761600}
    [_, told] = lines(schedules_page({"items": [item]}), 200)
    assert "2027-01-01T00:00:00+00:00" in told
    [_, told] = lines(schedules_page({"items": [item | {"problem": "no such zone"}]}), 200)
    assert "no such zone" in told


def test_what_failed_in_a_loop_is_told() -> None:
    record: dict[str, Any] = {
        "state": "FAILED",
        "iterations": [
            {"path": "foreach:n[0]", "state": "SUCCEEDED", "error": None},
            {"path": "foreach:n[1]", "state": "FAILED", "error": "no such file"},
        ],
        "iteration_counts": {"SUCCEEDED": 1, "FAILED": 1},
    }
    run = {"tasks": {"load": "FAILED"}, "task_records": {"load": record}}
    assert lines(tasks_view(run))[-2:] == ["load", "foreach:n[1]: no such file"]


def test_wheels_of_several_tenants_say_whose_they_are() -> None:
    own, shared = ({"name": name, "tenant_id": whose} for name, whose in (("a", "t1"), ("b", None)))
    head, *rows = lines(wheels_table([own, shared]))
    assert head.split()[-1] == "tenant"
    assert [re.split(r" {2,}", row.strip())[-1] for row in rows] == ["t1", "(all tenants)"]
    assert "tenant" not in lines(wheels_table([own, own]))[0]


def test_what_was_not_kept_is_told_where_a_run_is_shown() -> None:
    told = "not kept: ../x: its name leads out"
    run = snapshot(ID, artifacts_refused=[{"name": "../x", "reason": "its name leads out"}])
    assert any(told in line for line in lines(run_panel(run)))
    console = Console(width=100)
    with console.capture() as captured:
        print_result(console, msgspec.convert(run, RunSnapshot))
    assert f"artifact {told}" in captured.get().splitlines()


RUN = {
    "run_id": ID,
    "state": "COMPLETED",
    "updated_at": 0,
    "flow_name": "main",
    "worker_id": "host-1",
    "tag": "hello",
}
WORKER = {
    "worker_id": "w1",
    "state": "RUNNING",
    "draining": True,
    "last_seen_at": time.time() - 3,
    "current_run_id": ID,
    "last_run_status": "COMPLETED",
    "tags": ["hello", "reports"],
}
WHEEL = "reports_flow-1.0.0-py3-none-any.whl"
LISTS = {
    "list": runs_table([RUN, RUN | {"state": "FAILED", "error": ERROR}]),
    "dlq list": letters_page(
        {"items": [RUN | {"seq": 12, "reason": "execution_error", "timestamp": 0, "error": ERROR}]}
    ),
    "workers": workers_table([WORKER, {"worker_id": "host-4711", "state": "IDLE"}]),
    "schedule list": schedules_page(
        {
            "items": [
                {
                    "schedule_id": "nightly-report",
                    "state": "active",
                    "cron": "0 2 * * *",
                    "flow_name": "main",
                    "next_tick_at": 1798761600,
                    "timezone": "Europe/Berlin",
                    "last_tick": {"outcome": "skipped", "tick": 0},
                }
            ]
        }
    ),
    "schedule ticks": past_ticks(
        {"items": [RUN | {"local": "2026-11-29T09:34:06+00:00", "outcome": "run", "reason": "-"}]}
    ),
    "wheels": wheels_table(
        [{"name": WHEEL, "size_bytes": 12345, "tags": ["hello"], "tenant_id": t} for t in "ab"]
    ),
    "wheel-history": history_table(
        [{"occurred_at": 0, "action": "upload", "wheel_name": WHEEL, "tags": ["hello"]}]
    ),
    "artifacts": artifacts_table(
        {"artifacts": [{"name": "report.csv", "size_bytes": 12, "sha256_hex": 64 * "0"}]}
    ),
    "result": results_table(
        {"results": [{"task": "load", "size_bytes": 12, "media_type": "application/json"}]}
    ),
}
# What is cut where it is too long, once all else has its room.
CUT = {
    "list": "error",
    "dlq list": "error",
    "workers": "tags",
    "schedule list": "last",
    "schedule ticks": "why",
    "wheels": "tags",
    "wheel-history": "by",
    "artifacts": "sha256",
    "result": "sha256",
}
ALWAYS = {
    "list": "run status flow",
    "dlq list": "seq reason run",
    "workers": "worker state",
    "schedule list": "schedule state",
    "schedule ticks": "tick outcome",
    "wheels": "wheel",
    "wheel-history": "wheel",
    "artifacts": "artifact",
    "result": "task",
}


def cells(view: RenderableType, width: int) -> dict[str, list[str]]:
    """The columns of a table by their heads, as they are drawn."""
    head, *rows = lines(view, width)
    heads = list(re.finditer(r"\S+(?: \S+)*", head))
    edges = [found.start() for found in heads] + [width]
    return {
        found[0]: [row[edges[at] : edges[at + 1]].strip() for row in rows]
        for at, found in enumerate(heads)
    }


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120])
@pytest.mark.parametrize("command", LISTS)
def test_columns_are_whole_or_not_there(command: str, width: int) -> None:
    wide, drawn = cells(LISTS[command], 400), cells(LISTS[command], width)
    assert set(ALWAYS[command].split()) <= drawn.keys() <= wide.keys()
    for head, told in drawn.items():
        whole = wide[head]
        if head == CUT[command]:
            continue
        assert told == whole or (head == "run" and told == [each[:8] for each in whole]), head
    assert len(lines(LISTS[command], width)) == 1 + len(next(iter(wide.values())))


@pytest.mark.parametrize(("width", "run"), [(40, ID[:8]), (60, ID[:8]), (80, ID), (120, ID)])
def test_where_it_is_narrow_an_id_is_as_much_as_commands_take(width: int, run: str) -> None:
    assert cells(LISTS["list"], width)["run"] == [run, run]
    assert cells(LISTS["dlq list"], width)["run"] == [run]


def test_a_worker_that_drains_leaves_room_for_its_tags() -> None:
    [draining, _] = cells(LISTS["workers"], 80)["tags"]
    assert draining == "hello,reports"


def test_a_long_name_is_folded_where_it_has_room_and_never_letter_by_letter() -> None:
    name = "a-flow-with-a-rather-long-name-that-is-wanted-whole"
    view = runs_table([RUN | {"flow_name": name}])
    for width in (40, 60, 80, 100):
        assert "".join(cells(view, width)["flow"]) == name
        assert len(cells(view, width)["flow"]) <= 3
    [head, row] = lines(runs_table([RUN | {"flow_name": name}]), 28)
    assert head.split() == ["run", "status", "flow"]
    assert row.rstrip().endswith("…")


@pytest.mark.parametrize("width", [80, 100, 110, 120, 200])
@pytest.mark.parametrize("length", [4, 60])
def test_a_live_list_has_whole_ids_however_long_the_other_names_are(
    width: int, length: int
) -> None:
    name = "n" * length
    run = snapshot(ID, flow_name=name, tag=name, worker_id=name, status="CANCELLING")
    _, line = lines(run_table([run, run], width), width)[:2]
    assert re.match(rf"{ID} +CANCELLING  n", line)
    assert line.endswith(" ago")
    assert ("n" * min(length, 14)) in line
