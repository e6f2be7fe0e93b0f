"""Schedules over HTTP."""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from msgspec.structs import replace

from backend.stage import TAG
from backend.test_schedules import no_time
from http_api.gateway import gateway, yaml_form
from http_api.keyed import KEYED, key_for
from nats_fixtures import eventually
from pyoco_server.gateway.new_run import Person
from pyoco_server.gateway.schedules import desk, records
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.model.json_text import encode_json
from pyoco_server.model.schedules import ticks
from pyoco_server.model.schedules.schedule import (
    MAX_ACTIVE,
    MAX_CATCH_UP,
    MAX_CHANGES_KEPT,
    MAX_TICKS_KEPT,
    MAX_WAITING,
    Schedule,
    ScheduleChange,
    ScheduleProgress,
    ScheduleSpec,
    TickOutcome,
    TickRecord,
)
from pyoco_server.store.schedules import ROOM_BYTES, ScheduleStore

NIGHTLY = {
    "schedule_id": "nightly",
    "flow_name": "quick",
    "cron": "30 2 * * *",
    "timezone": "Europe/Berlin",
    "params": {"day": "{{scheduled_date}}"},
    "labels": {"team": "data"},
}


async def test_a_schedule_is_made_looked_at_changed_and_deleted(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        made = (await client.post("/schedules", json=NIGHTLY)).json()
        assert (made["schedule_id"], made["version"], made["state"]) == ("nightly", 1, "active")
        assert made["next_tick_at"] > made["created_at"]
        again = await client.post("/schedules", json=NIGHTLY)
        assert (again.status_code, again.json()["detail"]) == (409, "schedule exists")
        coming = (await client.get("/schedules/nightly/next?count=3")).json()["ticks"]
        assert [tick["local"][11:16] for tick in coming] == ["02:30"] * 3
        changed = await client.patch("/schedules/nightly", json={"every_sec": 60, "version": 1})
        assert changed.json()["cron"] is None
        assert changed.json()["params"] == NIGHTLY["params"]
        assert [change["action"] for change in changed.json()["changes"]] == ["create", "update"]
        stale = await client.patch("/schedules/nightly", json={"every_sec": 5, "version": 1})
        assert (stale.status_code, stale.json()["err_id"]) == (409, "ERR-PYOCO-0031")
        paused = (await client.post("/schedules/nightly/pause")).json()
        assert (paused["state"], paused["next_tick_at"]) == ("paused", None)
        assert (await client.post("/schedules/nightly/resume")).json()["state"] == "active"
        body = {name: value for name, value in NIGHTLY.items() if name != "schedule_id"}
        whole = (await client.put("/schedules/nightly", json=body)).json()
        assert (whole["cron"], whole["every_sec"]) == ("30 2 * * *", None)
        new = (await client.put("/schedules/other", json=body)).json()
        assert (new["schedule_id"], new["version"]) == ("other", 1)
        page = (await client.get("/schedules?limit=1")).json()
        assert ([item["schedule_id"] for item in page["items"]], page["total"]) == (["nightly"], 2)
        rest = (await client.get("/schedules", params={"cursor": page["next_cursor"]})).json()
        assert ([item["schedule_id"] for item in rest["items"]], rest["total"]) == (["other"], 2)
        assert rest["next_cursor"] is None
        found = (await client.get("/schedules?label=team=data&q=NIGHT&paused=false")).json()
        assert [item["schedule_id"] for item in found["items"]] == ["nightly"]
        assert (await client.get("/schedules?label=team=ops")).json()["items"] == []
        assert (await client.delete("/schedules/nightly")).json()["deleted"]
        gone = await client.get("/schedules/nightly")
        assert (gone.status_code, gone.json()["detail"]) == (404, "schedule not found")
        without_id = dict(body)
        chosen = (await client.post("/schedules", json=without_id)).json()
        assert chosen["schedule_id"].startswith("s-")


async def test_a_preview_shows_ticks_and_stores_nothing(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        body = {"flow_name": "f", "every_sec": 3600, "timezone": "Asia/Tokyo", "count": 3}
        ticks = (await client.post("/schedules/preview", json=body)).json()["ticks"]
        assert [b["tick_at"] - a["tick_at"] for a, b in pairwise(ticks)] == [
            3600,
            3600,
        ]
        assert ticks[0]["local"].endswith("+09:00")
        assert (await client.get("/schedules")).json()["total"] == 0


async def test_a_schedule_whose_times_cannot_be_computed_is_told_apart_and_mended(
    tmp_path: Path,
) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        fields = {"flow_name": "quick", "cron": "0 3 * * *", "jitter_sec": 60}
        for schedule_id in ("well", "of-mars"):
            await client.put(f"/schedules/{schedule_id}", json=fields)
        schedule = await backend.schedules.get("of-mars", Person())
        progress = replace(
            schedule.progress,
            waiting=[schedule.progress.cursor],
            ticks=[TickRecord(tick=0, outcome=TickOutcome.MISSED, decided_at=1.0)],
        )
        foreign = replace(
            schedule, spec=replace(schedule.spec, timezone="Mars/X"), progress=progress
        )
        bucket = KeyValue(backend.connection, backend.settings.schedules_kv_bucket)
        await bucket.put(schedule.key, encode_json(foreign))

        async def known() -> bool:
            items = (await client.get("/schedules")).json()["items"]
            return [item["problem"] for item in items] == [problem, None]

        problem = "this machine has no time zone 'Mars/X'"
        await eventually(known)
        calendar = (await client.get("/schedules/calendar")).json()["items"]
        told = [(item["schedule_id"], len(item["ticks"]), item["problem"]) for item in calendar]
        assert told == [("of-mars", 0, problem), ("well", 1, None)]
        assert (await client.get("/schedules/of-mars")).json()["problem"] == problem
        coming = (await client.get("/schedules/of-mars/next")).json()
        assert (coming["ticks"], coming["problem"]) == ([], problem)
        past = (await client.get("/schedules/of-mars/ticks")).json()
        assert [tick["local"] for tick in past["items"]] == ["1970-01-01T00:00:00+00:00"]
        assert len(past["waiting"]) == 1
        span = {"from": 0, "to": 1}
        for what, body in (("trigger", None), ("backfill", span)):
            refused = await client.post(f"/schedules/of-mars/{what}", json=body)
            said = refused.json()
            assert (refused.status_code, said["detail"]) == (409, "schedule not computed"), what
            assert said["reason"] == problem
        assert (await client.post("/schedules/of-mars/pause")).json()["paused"]
        assert (await client.post("/schedules/of-mars/resume")).status_code == 409
        mending = {"timezone": "Asia/Tokyo", "paused": False}
        mended = await client.patch("/schedules/of-mars", json=mending)
        assert (mended.status_code, mended.json()["problem"]) == (200, None)
        assert mended.json()["next_due_at"] >= mended.json()["next_tick_at"] > 0


async def test_a_rule_is_checked_and_previewed_from_where_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        now = await backend.schedules.now()
        until = datetime.fromtimestamp(now + 86_400, UTC)
        rules = {"ends": f"FREQ=DAILY;UNTIL={until:%Y%m%dT%H%M%SZ}", "on": "FREQ=DAILY;INTERVAL=3"}
        for schedule_id, rule in rules.items():
            fields = {"flow_name": "quick", "rrule": rule, "jitter_sec": 600}
            made = await client.put(f"/schedules/{schedule_id}", json=fields)
            assert made.status_code == 200, made.text

        async def later(_: ScheduleStore) -> float:
            return now + 2 * 86_400

        monkeypatch.setattr(ScheduleStore, "now", later)
        fields = {"flow_name": "quick", "rrule": rules["ends"], "jitter_sec": 600}
        for method, path, body in (
            ("PATCH", "/schedules/ends", {"labels": {"team": "data"}}),
            ("PUT", "/schedules/ends", fields),
            ("POST", "/schedules/preview", fields | {"schedule_id": "ends"}),
        ):
            answer = await client.request(method, path, json=body)
            assert answer.status_code == 200, (method, path, answer.text)
        body = fields | {"rrule": rules["on"], "schedule_id": "on"}
        shown = (await client.post("/schedules/preview", json=body)).json()
        assert shown == (await client.get("/schedules/on/next")).json()
        absent = await client.post("/schedules/preview", json=body | {"schedule_id": "absent"})
        assert absent.status_code == 404


async def test_runs_carry_their_schedule_and_lists_are_filtered_by_it(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        body = {"schedule_id": "s", "flow_name": "quick", "every_sec": 1, "overlap": "allow"}
        await client.post("/schedules", json=body)
        header = {"Idempotency-Key": "now"}
        asked = await client.post("/schedules/s/trigger", headers=header)
        again = await client.post("/schedules/s/trigger", headers=header)
        assert asked.json() == again.json()
        assert "Idempotent-Replay" not in asked.headers
        assert again.headers["Idempotent-Replay"] == "true"
        items: list[dict[str, Any]] = []
        with trio.fail_after(60):
            while len(items) < 3:
                items = (await client.get("/runs?schedule_id=s")).json()["items"]
        last = max(item["scheduled_at"] for item in items)
        assert {item["schedule_id"] for item in items} == {"s"}
        first = (await client.get("/runs?schedule_id=s&limit=1")).json()
        next_page = {"schedule_id": "s", "limit": 1, "cursor": first["next_cursor"]}
        second = (await client.get("/runs", params=next_page)).json()
        assert first["items"][0]["run_id"] != second["items"][0]["run_id"]
        later = (await client.get(f"/runs?scheduled_after={last}")).json()["items"]
        assert all(item["scheduled_at"] > last for item in later)
        earlier = (await client.get(f"/runs?scheduled_before={last}")).json()["items"]
        assert earlier
        assert all(item["scheduled_at"] < last for item in earlier)
        assert (await client.get("/runs?schedule_id=none")).json()["items"] == []
        run = (await client.get(f"/runs/{items[0]['run_id']}")).json()
        assert run["schedule_id"] == "s"
        await client.post("/schedules/s/pause")
        ticks = (await client.get("/schedules/s/ticks")).json()["items"]
        assert {tick["outcome"] for tick in ticks} == {"run"}
        assert {tick["status"] for tick in ticks} == {"PENDING"}
        calendar = (await client.get("/schedules/calendar?hours=1")).json()
        assert calendar["items"][0]["paused"]
        assert len(calendar["items"][0]["ticks"]) == 100
        assert calendar["items"][0]["more"]
        metrics = (await client.get("/metrics")).text
        assert 'pyoco_schedule_ticks_total{outcome="run"}' in metrics
        assert 'pyoco_schedules{state="paused"} 1' in metrics


async def test_the_past_is_filled_once(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        await client.post("/schedules", json=NIGHTLY)
        span = {"from": "2026-11-01T00:00", "to": "2026-11-03T23:59:59"}
        plan = (
            await client.post("/schedules/nightly/backfill", json=span | {"dry_run": True})
        ).json()
        assert [item["local"] for item in plan["items"]] == [
            f"2026-11-0{day}T02:30:00+01:00" for day in (1, 2, 3)
        ]
        assert {item["outcome"] for item in plan["items"]} == {"would_submit"}
        done = (await client.post("/schedules/nightly/backfill", json=span)).json()
        assert {item["outcome"] for item in done["items"]} == {"submitted"}
        again = (await client.post("/schedules/nightly/backfill", json=span)).json()
        assert {item["outcome"] for item in again["items"]} == {"exists"}
        run = (await client.get(f"/runs/{done['items'][0]['run_id']}")).json()
        assert run["params"] == {"day": "2026-11-01"}
        wrong = await client.post("/schedules/nightly/backfill", json=span | {"till": 1})
        assert "there are dry_run, from, limit, to" in wrong.json()["reason"]


async def test_what_takes_no_body_refuses_one(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        await client.post("/schedules", json=NIGHTLY)
        for action in ("trigger", "pause", "resume"):
            url = f"/schedules/nightly/{action}"
            answer = await client.post(url, json={"overlap": "skip"})
            assert (answer.status_code, answer.json()["field"]) == (422, "overlap"), action
            assert (await client.post(url, json={})).status_code == 200
        runs = (await client.get("/runs", params={"schedule_id": "nightly"})).json()
        assert len(runs["items"]) == 1


WRONG: tuple[tuple[dict[str, Any], str], ...] = (
    ({"cron": "nonsense"}, "cron"),
    ({"timezone": "Mars"}, "timezone"),
    ({"params": {"a": "{{scheduled_dat}}"}}, "params"),
    ({"schedule_id": "calendar"}, "schedule_id"),
    ({"schedule_id": "a b"}, "schedule_id"),
    ({"cronn": "* * * * *"}, "cronn"),
    ({"every_sec": 5}, "every_sec"),
    ({"workflow_yaml_sha256": "0" * 64}, "workflow_yaml_sha256"),
    ({"tag": "a.b"}, "tag"),
)


async def test_what_cannot_be_is_refused_with_its_name(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        for body, field in WRONG:
            answer = await client.post("/schedules", json=NIGHTLY | body)
            assert (answer.status_code, answer.json().get("field")) == (422, field), body


async def test_a_flow_yaml_that_cannot_be_taken_says_where(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        wrong = await client.post("/schedules", json=NIGHTLY | {"workflow_yaml": "flow: ["})
        assert wrong.json()["detail"] == "invalid workflow yaml"
        text = "flow: {graph: a}\ntasks: {a: {callable: 'math:sqrt'}}\n"
        made = (await client.post("/schedules", json=NIGHTLY | {"workflow_yaml": text})).json()
        kept = {"workflow_yaml_sha256": made["workflow_yaml_sha256"], "every_sec": 60}
        other = await client.put("/schedules/other", json={"flow_name": "f", **kept})
        assert other.json()["workflow_yaml_bytes"] == len(text)
        renamed = (await client.patch("/schedules/other", json={"name": "x"})).json()
        assert renamed["workflow_yaml_sha256"] == made["workflow_yaml_sha256"]
        without = await client.patch("/schedules/other", json={"workflow_yaml": None})
        assert without.json()["workflow_yaml_sha256"] is None


async def test_another_tenants_schedule_is_none_and_changes_need_the_role(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False, **KEYED) as (client, backend):
        mine = {"X-API-Key": (await key_for(backend, "a"))[0]}
        theirs = {"X-API-Key": (await key_for(backend, "b"))[0]}
        reader = {"X-API-Key": (await key_for(backend, "a", ()))[0]}
        made = await client.post("/schedules", json=NIGHTLY, headers=mine)
        assert made.json()["tenant_id"] == "a"
        assert (await client.get("/schedules/nightly", headers=theirs)).status_code == 404
        assert (await client.get("/schedules", headers=theirs)).json()["items"] == []
        assert (await client.get("/schedules/nightly", headers=reader)).status_code == 200
        for method, path in (
            ("POST", "/schedules"),
            ("DELETE", "/schedules/nightly"),
            ("POST", "/schedules/nightly/trigger"),
            ("POST", "/schedules/nightly/pause"),
            ("POST", "/schedules/nightly/backfill"),
        ):
            refused = await client.request(method, path, headers=reader, json={})
            assert refused.status_code == 403, path
        told = (await client.get("/schedules/nightly", headers=mine)).json()
        assert told["changes"][0]["changed_by"] == f"api_key:{told['api_key_id']}"


async def test_another_tenants_flow_yaml_is_none(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False, **KEYED) as (client, backend):
        mine = {"X-API-Key": (await key_for(backend, "a"))[0]}
        theirs = {"X-API-Key": (await key_for(backend, "b"))[0]}
        body: dict[str, Any] = {"flow_name": "f", "every_sec": 3600}
        text = {"workflow_yaml": "flow: {graph: a}\ntasks: {a: {callable: 'math:sqrt'}}\n"}
        made = (await client.put("/schedules/s", json=body | text, headers=mine)).json()
        sha256 = made["workflow_yaml_sha256"]
        assert (await client.put("/schedules/t", json=body, headers=theirs)).status_code == 200
        for method, path, given in (
            ("POST", "/schedules/preview", body),
            ("POST", "/schedules", body),
            ("PUT", "/schedules/t", body),
            ("PUT", "/schedules/new", body),
            ("PATCH", "/schedules/t", {}),
        ):
            answers: list[tuple[int, str]] = []
            for digest in (sha256, "0" * 64):
                told = given | {"workflow_yaml_sha256": digest}
                answer = await client.request(method, path, json=told, headers=theirs)
                answers.append((answer.status_code, answer.text.replace(digest, "it")))
            assert answers[0] == answers[1], (method, path)
            assert answers[0][0] == 422, (method, path)
        named = {"workflow_yaml_sha256": sha256}
        own = await client.patch("/schedules/s", json={"name": "x", **named}, headers=mine)
        assert (own.status_code, own.json()["name"]) == (200, "x")
        # Who has the file itself may name it, too.
        form = yaml_form(text["workflow_yaml"].encode())
        run = await client.post("/runs/yaml", headers=theirs, **form)
        assert run.status_code == 200, run.text
        again = await client.patch("/schedules/t", json=named, headers=theirs)
        assert (again.status_code, again.json()["workflow_yaml_sha256"]) == (200, sha256)


async def test_a_tenant_has_room_for_its_schedules_whatever_others_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(tmp_path, worker=False, **KEYED, schedules_per_tenant=2) as (
        client,
        backend,
    ):
        monkeypatch.setattr(desk, "MAX_SCHEDULES", 3)
        mine = {"X-API-Key": (await key_for(backend, "a"))[0]}
        theirs = {"X-API-Key": (await key_for(backend, "b"))[0]}

        async def make(schedule_id: str, who: dict[str, str]) -> httpx.Response:
            body = {"flow_name": "f", "every_sec": 3600}
            return await client.put(f"/schedules/{schedule_id}", json=body, headers=who)

        for schedule_id in ("s", "t"):
            assert (await make(schedule_id, mine)).status_code == 200
        full = (await make("u", mine)).json()
        assert (full["status"], full["detail"]) == (409, "too many schedules")
        assert "has 2 schedules" in full["reason"]
        assert "PYOCO_SCHEDULES_PER_TENANT" in full["reason"]
        assert (await make("s", theirs)).status_code == 200
        over_all = (await make("t", theirs)).json()
        assert over_all["detail"] == "too many schedules"
        assert not re.search("[0-9]", over_all["reason"])
        assert (await make("s", mine)).status_code == 200


async def test_what_is_due_is_computed_where_nobody_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[threading.Thread] = set()
    by_rule = ticks._by_rule

    def noted(*args: Any) -> Iterator[int]:
        threads.add(threading.current_thread())
        return by_rule(*args)

    monkeypatch.setattr(ticks, "_by_rule", noted)
    async with gateway(tmp_path, worker=False) as (client, _):
        rule = "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=29;BYDAY=SU"
        body = {"flow_name": "f", "rrule": rule, "jitter_sec": 3600, "start_at": "2020-01-01"}
        made = (await client.put("/schedules/s", json=body)).json()
        threads.clear()
        listed = (await client.get("/schedules?limit=500")).json()["items"]
        shown = (await client.get("/schedules/s")).json()
        assert threads == set()
        tick, due = made["next_tick_at"], made["next_due_at"]
        assert tick < due < tick + 3600
        assert [item["next_due_at"] for item in [*listed, shown]] == [due, due]
        coming = (await client.get("/schedules/s/next?count=1")).json()["ticks"]
        assert [each["due_at"] for each in coming] == [due]
        previewed = await client.post("/schedules/preview", json=body | {"count": 2})
        assert len(previewed.json()["ticks"]) == 2
        for path in ("/schedules/s/ticks", "/schedules/calendar?hours=1"):
            assert (await client.get(path)).status_code == 200, path
        for action in ("pause", "resume"):
            assert (await client.post(f"/schedules/s/{action}")).status_code == 200
        renamed = (await client.patch("/schedules/s", json={"name": "x"})).json()
        assert renamed["next_due_at"] == due
        assert threads
        assert threading.current_thread() not in threads


@pytest.mark.parametrize("limit", [0, 262_144])
async def test_what_is_too_large_is_refused_as_a_run_is(tmp_path: Path, limit: int) -> None:
    async with gateway(tmp_path, worker=False, max_run_snapshot_bytes=limit) as (client, _):
        small = {"schedule_id": "s", "flow_name": "f", "every_sec": 3600}
        assert (await client.post("/schedules", json=small)).status_code == 200
        for size in (900_000, 1_200_000) if limit == 0 else (250_000, 1_200_000):
            body = {"flow_name": "f", "every_sec": 3600, "params": {"x": "x" * size}}
            for method, path, given in (
                ("POST", "/schedules", body),
                ("PUT", "/schedules/s", body),
                ("PATCH", "/schedules/s", {"params": body["params"]}),
                ("PUT", "/schedules/new", body),
                ("POST", "/schedules/preview", body),
            ):
                answer = await client.request(method, path, json=given)
                assert answer.status_code == 413, (method, path, answer.text)
                assert "Retry-After" not in answer.headers
        body["params"] = {"x": "x" * (200_000 if limit else 800_000)}
        large = (await client.put("/schedules/s", json=body)).json()
        assert large["version"] == 2
        # Of params and a flow.yaml that are small enough alone.
        flow = f"flow: {{graph: a}}\ntasks: {{a: {{callable: 'm:a'}}}}\n#{'x' * 250_000}"
        for method, path in (("POST", "/schedules/preview"), ("PUT", "/schedules/s")):
            answer = await client.request(method, path, json={**body, "workflow_yaml": flow})
            assert answer.status_code == (200 if limit else 413), (method, path, answer.text)
        assert (await client.get("/schedules")).json()["total"] == 1


def test_there_is_room_for_all_that_a_schedule_comes_to_tell() -> None:
    text, name = "\N{EURO SIGN}" * 500, "n" * 200
    tick = TickRecord(
        tick=2**40,
        outcome=TickOutcome.REFUSED,
        decided_at=1e12 / 7,
        run_id=str(uuid.uuid4()),
        reason=text,
        count=2**40,
        triggered=True,
    )
    change = ScheduleChange(
        changed_at=1e12 / 7,
        action="backfill",
        changed_by=name,
        fields=[*ScheduleSpec.__struct_fields__, "paused"],
        version=2**40,
    )
    spec = ScheduleSpec(flow_name="f")
    progress = ScheduleProgress(
        cursor=2**40,
        wake_at=1e12 / 7,
        next_tick=2**40,
        next_due_at=1e12 / 7,
        waiting=[2**40] * MAX_WAITING,
        starting=[2**40] * MAX_CATCH_UP,
        active=[str(uuid.uuid4())] * MAX_ACTIVE,
        ticks=[tick] * MAX_TICKS_KEPT,
        counts=dict.fromkeys(TickOutcome, 2**40),
    )
    whole = Schedule(
        schedule_id="s" * 64,
        spec=spec,
        progress=progress,
        paused=True,
        tenant_id="t" * 64,
        api_key_id="k" * 64,
        changes=[change] * MAX_CHANGES_KEPT,
    )
    assert len(encode_json(whole)) - len(encode_json(spec)) < ROOM_BYTES


async def test_what_is_not_computed_for_want_of_time_is_to_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        body = {"flow_name": "quick", "tag": TAG, "cron": "0 0 1 1 *"}
        assert (await client.put("/schedules/s", json=body)).status_code == 200
        monkeypatch.setattr(records, "_READ_SECONDS", 0.1)
        with no_time(backend.schedules):
            refused = await client.post("/schedules/s/pause")
            said = refused.json()
            assert (refused.status_code, said["detail"]) == (503, "schedule not computed")
            assert refused.headers["retry-after"] == "1"
            assert (await client.post("/schedules/s/trigger")).status_code == 200
