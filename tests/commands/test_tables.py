"""What people see of runs and letters, on screens of any width."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from rich.console import Console, RenderableType

from http_api.seeding import snapshot
from pyoco_cli.client.run_views import letters_page, run_panel, runs_table, submitted, tasks_view
from pyoco_cli.client.schedule_views import past_ticks, when
from pyoco_cli.client.views import wheels_table
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
