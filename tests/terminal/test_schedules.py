"""`pyoco-client schedule …`: previews, lists, and a file that is applied as a whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from commands.calling import client
from e2e.programs import Stage
from terminal.screens import on_terminal

pytestmark = [pytest.mark.slow, pytest.mark.nats]

FILE = """\
schedules:
  nightly:
    flow_name: main
    cron: 30 2 * * *
    timezone: Europe/Berlin
    params: {day: "{{scheduled_date}}"}
    start_at: 2026-01-01
  hourly:
    flow_name: main
    every_sec: 3600
    paused: true
"""


def shown(stage: Stage, *command: str) -> str:
    argv = ("pyoco-client", "schedule", *command)
    with on_terminal(*argv, folder=stage.folder, env=stage.env, columns=120) as terminal:
        assert terminal.end() == 0
        return terminal.text


def test_a_schedule_is_shown_before_it_is_made_and_changed(stage: Stage) -> None:
    made = client(
        stage,
        *("schedule", "create", "daily", "--cron", "0 9 * * 1-5", "--timezone", "Asia/Tokyo"),
        *("--workflow-file", str(stage.folder / "count.yaml"), "--tag", "hello"),
        *("--label", "team=data"),
    )
    assert len(re.findall(r"next: \S+T09:00:00\+09:00", made.err)) == 5
    assert made.last["labels"] == {"team": "data"}
    only = client(stage, "schedule", "update", "daily", "--every", "1h30m", "--dry-run")
    assert only.last["spec"]["every_sec"] == 5400
    assert client(stage, "schedule", "show", "daily").last["cron"] == "0 9 * * 1-5"
    changed = client(stage, "schedule", "update", "daily", "--every", "1h30m").last
    assert (changed["cron"], changed["every_sec"]) == (None, 5400)
    given = client(stage, "schedule", "update", "daily", "--param", "x=1").last
    assert given["params"] == {"x": 1}
    emptied = client(stage, "schedule", "update", "daily", "--params", "{}").last
    assert emptied["params"] == {}
    assert client(stage, "schedule", "pause", "daily").last["state"] == "paused"
    assert client(stage, "schedule", "resume", "daily").last["state"] == "active"
    run = client(stage, "schedule", "trigger", "daily", "--wait").last
    assert run["schedule_id"] == "daily"
    ticks = client(stage, "schedule", "ticks", "daily").last["items"]
    assert (ticks[0]["triggered"], ticks[0]["status"]) == (True, "COMPLETED")
    runs = client(stage, "list", "--schedule-id", "daily").last
    assert [item["run_id"] for item in runs] == [run["run_id"]]
    span = ("--from", "2026-01-05T00:00", "--to", "2026-01-05T03:00", "--dry-run")
    filled = client(stage, "schedule", "backfill", "daily", *span).last
    assert {item["outcome"] for item in filled["items"]} == {"would_submit"}
    assert "every 5400 s" in shown(stage, "list")
    assert "Asia/Tokyo" in shown(stage, "show", "daily")
    assert client(stage, "schedule", "delete", "daily").last["deleted"]


def test_a_rule_is_shown_from_where_it_began(stage: Stage, tmp_path: Path) -> None:
    made = client(stage, "schedule", "create", "ruled", "--rrule", "FREQ=DAILY;INTERVAL=3").last
    ticks = client(stage, "schedule", "next", "ruled").last["ticks"]
    shown = client(stage, "schedule", "update", "ruled", "--label", "a=b", "--dry-run").last
    assert shown["ticks"] == ticks
    file = tmp_path / "schedules.yaml"
    rule = "{flow_name: main, rrule: FREQ=DAILY;INTERVAL=3}"
    file.write_text(f"schedules: {{ruled: {rule}}}")
    [step] = client(stage, "schedule", "apply", "-f", str(file)).last["items"]
    assert (step["action"], step["next"]) == ("keep", [tick["local"] for tick in ticks])
    assert client(stage, "schedule", "delete", made["schedule_id"]).last["deleted"]


def test_a_file_is_applied_as_a_whole_and_again_changes_nothing(
    stage: Stage, tmp_path: Path
) -> None:
    file = tmp_path / "schedules.yaml"
    file.write_text(FILE)

    def applied(*options: str) -> dict[str, str]:
        done = client(stage, "schedule", "apply", "-f", str(file), *options).last
        return {item["schedule_id"]: item["action"] for item in done["items"]}

    assert applied("--dry-run") == {"hourly": "create", "nightly": "create"}
    assert client(stage, "schedule", "list").last["items"] == []
    assert applied() == {"hourly": "create", "nightly": "create"}
    assert applied() == {"hourly": "keep", "nightly": "keep"}
    file.write_text(FILE.replace("30 2", "45 2").replace("3600", "nonsense"))
    wrong = client(stage, "schedule", "apply", "-f", str(file))
    assert wrong.code == 1
    assert "schedule hourly" in wrong.err
    assert wrong.err.count("nonsense") <= 1
    assert client(stage, "schedule", "show", "nightly").last["cron"] == "30 2 * * *"
    for other, why in (
        ("each hour: {flow_name: main, every_sec: 3600}", "schedule_id: takes 1 to 64"),
        ("preview: {flow_name: main, every_sec: 3600}", "'preview' is a word of the API"),
        ("more: {flow_name: main, every_sec: 3600, count: 3}", "a schedule has no count"),
    ):
        file.write_text(f"{FILE}  {other}\n".replace("30 2", "45 2"))
        wrong = client(stage, "schedule", "apply", "-f", str(file))
        assert (wrong.code, wrong.out) == (1, "")
        assert why in wrong.err
        assert client(stage, "schedule", "show", "nightly").last["cron"] == "30 2 * * *"
    large = f"  toolarge: {{flow_name: main, every_sec: 60, params: {{x: {'x' * 300_000}}}}}"
    file.write_text(f"{FILE}{large}\n".replace("30 2", "45 2"))
    wrong = client(stage, "schedule", "apply", "-f", str(file))
    assert (wrong.code, wrong.out) == (1, "")
    assert "schedule toolarge: " in wrong.err
    assert client(stage, "schedule", "show", "nightly").last["cron"] == "30 2 * * *"
    file.write_text(FILE.replace("30 2", "45 2"))
    diff = client(stage, "schedule", "apply", "-f", str(file), "--output", "text", "--dry-run")
    assert '    cron: "30 2 * * *" → "45 2 * * *"' in diff.lines
    assert applied() == {"hourly": "keep", "nightly": "update"}
    file.write_text(FILE.partition("  hourly:")[0])
    assert applied() == {"nightly": "update"}
    assert applied("--prune") == {"hourly": "delete", "nightly": "keep"}
    assert applied("--prune") == {"nightly": "keep"}
    client(stage, "schedule", "delete", "nightly")


def test_a_flow_that_a_file_brings_is_called_as_one_that_is_submitted(
    stage: Stage, tmp_path: Path
) -> None:
    (tmp_path / "flow.yaml").write_text("flow: {graph: a}\ntasks: {a: {callable: 'm:a'}}\n")
    file = tmp_path / "schedules.yaml"
    file.write_text("schedules: {brings: {workflow_file: flow.yaml, cron: '@daily'}}")
    assert client(stage, "schedule", "apply", "-f", str(file)).code == 0
    assert client(stage, "schedule", "show", "brings").last["cron"] == "0 0 * * *"
    assert client(stage, "schedule", "show", "brings").last["flow_name"] == "main"
    assert client(stage, "schedule", "apply", "-f", str(file)).last["items"][0]["action"] == "keep"
    client(stage, "schedule", "delete", "brings")


def test_a_schedule_whose_moments_have_passed_is_made_and_says_so(
    stage: Stage, tmp_path: Path
) -> None:
    past = ("schedule", "create", "past", "--at", "2020-01-01T00:00")
    made = client(stage, *past)
    assert (made.code, made.last["state"]) == (0, "ended")
    assert "never: all of its moments have passed" in made.err
    file = tmp_path / "schedules.yaml"
    file.write_text("schedules: {past: {flow_name: main, at: [2020-01-01T00:00:00]}}")
    kept = client(stage, "schedule", "apply", "-f", str(file))
    assert (kept.last["items"][0]["action"], kept.err) == ("keep", "")
    client(stage, "schedule", "delete", "past")
    again = client(stage, "schedule", "apply", "-f", str(file))
    assert again.last["items"][0]["action"] == "create"
    assert "past: next: never: all of its moments have passed" in again.err
    client(stage, "schedule", "delete", "past")
