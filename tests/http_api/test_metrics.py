"""`GET /metrics`, `/actors`, `/queues`, `/stats` and `/health/ready`."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from backend.stage import ended, new_run, stop_as_at_the_end
from http_api.gateway import gateway
from http_api.keyed import KEYED, as_key, key_for
from http_api.seeding import put_runs, put_worker, snapshot
from pyoco_http.metrics import _by_tag
from pyoco_server.api.system import Queue
from pyoco_server.gateway import monitor
from pyoco_server.jetstream.keyvalue import KeyValue

Samples = dict[tuple[str, tuple[str, ...]], float]


async def samples(client: httpx.AsyncClient, **options: Any) -> Samples:
    answer = await client.get("/metrics", **options)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_the_four_names_of_the_contract_and_their_meaning(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        yesterday = time.time() - 86_400
        await put_runs(
            backend,
            [
                snapshot("r1"),
                snapshot("r2", updated_at=yesterday),
                snapshot("r3", status="FAILED"),
            ],
        )
        await put_worker(backend, "w1", slots=[{"index": 0, "run_id": "r"}, {"index": 1}])
        await put_worker(backend, "w2", last_seen_at=yesterday)
        found = await samples(client)
        assert found["pyoco_runs_total", ("COMPLETED",)] == 2
        assert found["pyoco_runs_total", ("FAILED",)] == 1
        assert found["pyoco_runs_total", ("RUNNING",)] == 0
        assert found["pyoco_runs_today_total", ("COMPLETED",)] == 1
        assert found["pyoco_workers_alive_total", ()] == 1
        assert found["pyoco_dlq_messages_total", ()] == 0
        assert found["pyoco_slots", ("busy",)] == 1
        assert found["pyoco_slots", ("free",)] == 1
        assert found["pyoco_projector_lag", ()] == 0
        assert found["pyoco_nats_reconnects", ()] == 0
        assert found["pyoco_actor_restarts", ("/gateway/reading/runs/projector",)] == 0
        assert ("pyoco_actor_mailbox_depth", ("/gateway/canceller",)) in found


async def test_a_run_shows_in_histograms_queues_and_stats(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (client, backend):
        accepted = await client.post("/runs", json={"flow_name": "quick", "tag": "hello"})
        await ended(backend, accepted.json()["run_id"])
        await client.post("/runs", json={"flow_name": "quick", "tag": "nobody"})
        await put_runs(backend, [snapshot("later")])
        # What streams say may be a second old, and a job is acknowledged behind the end of its run.
        waiting = {"nobody": 1, "hello": 0}
        with trio.fail_after(60):
            while True:
                found = await samples(client)
                if all(
                    found.get(("pyoco_queue_pending", (tag,))) == n for tag, n in waiting.items()
                ):
                    break
                await trio.sleep(0.1)
        assert found["pyoco_run_queue_wait_seconds_count", ()] == 2
        assert found["pyoco_run_duration_seconds_count", ("COMPLETED",)] == 2
        assert found["pyoco_submit_seconds_count", ()] == 2
        assert found["pyoco_http_request_seconds_count", ("POST", "/runs", "200")] == 2
        queues = (await client.get("/queues")).json()["queues"]
        assert [(queue["tag"], queue["pending"], queue["consumer"]) for queue in queues] == [
            ("hello", 0, True),
            ("nobody", 1, False),
        ]
        assert queues[0].keys() >= {"ack_pending", "redelivered", "waiting_pulls"}
        minutes = (await client.get("/stats?minutes=5")).json()["minutes"]
        assert len(minutes) == 5
        assert sum(minute["submitted"] for minute in minutes) == 3
        assert sum(minute["completed"] for minute in minutes) == 2
        assert any(minute["wait_avg"] is not None for minute in minutes)
        assert len((await client.get("/stats")).json()["minutes"]) == 60
        assert (await client.get("/stats?minutes=0")).status_code == 422


async def test_what_is_no_route_has_one_label(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        for path in ("/a", "/b", "/c?d"):
            await client.get(path)
        await client.request("FOREIGN", "/d")
        found = await samples(client)
        assert found["pyoco_http_request_seconds_count", ("(none)", "(none)", "404")] == 4


async def test_the_guide_names_every_metric_and_no_other(tmp_path: Path) -> None:
    guide = Path(__file__).parents[2] / "docs/guides/monitoring.md"
    named = set(re.findall(r"^\| `(pyoco_\w+)`", guide.read_text(), re.MULTILINE))
    async with gateway(tmp_path, worker=False) as (client, _):
        text = (await client.get("/metrics")).text
        assert set(re.findall(r"^# TYPE (pyoco_\w+)", text, re.MULTILINE)) == named


async def test_the_tree_of_actors_is_told_whole(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (client, backend):
        await backend.system.restart("/gateway/canceller")
        run = await backend.submit(new_run("quick"))
        await ended(backend, run.run_id)
        await backend.cancel(run.run_id)
        tree = (await client.get("/actors")).json()["tree"]

        def walk(node: dict[str, Any]) -> dict[str, dict[str, Any]]:
            found = {node["path"]: node}
            for child in node["children"]:
                found |= walk(child)
            return found

        nodes = walk(tree)
        assert nodes.keys() == {node.path for node in backend.system.tree().walk()}
        canceller = nodes["/gateway/canceller"]
        assert (canceller["incarnation"], canceller["restarts"]) == (2, 0)
        assert canceller["messages"] == 1
        assert canceller["seconds_per_message"] > 0
        assert canceller["mailbox_capacity"] > 0
        assert nodes["/gateway/reading/runs"]["strategy"] == "rest_for_one"


async def test_totals_are_those_of_the_keys_tenant(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False, **KEYED) as (client, backend):
        key, _ = await key_for(backend, "mine")
        await put_runs(backend, [snapshot("m", tenant_id="mine"), snapshot("t", tenant_id="t")])
        found = await samples(client, headers=as_key(key))
        assert found["pyoco_runs_total", ("COMPLETED",)] == 1
        assert (await client.get("/metrics")).status_code == 401


async def test_ready_says_what_stands_in_the_way(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        ready = await client.get("/health/ready")
        assert (ready.status_code, ready.json()["reasons"]) == (200, [])
        await stop_as_at_the_end(backend, "/gateway/reading/runs/projector")
        unready = await client.get("/health/ready")
        assert unready.status_code == 503
        assert "projector" in " ".join(unready.json()["reasons"])


async def test_a_read_model_stands_still_only_from_when_it_was_seen_to_be_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "_FRESH_SECONDS", 0.0)
    async with gateway(tmp_path, worker=False) as (_, backend):
        await put_runs(backend, [snapshot("r1")])
        assert (await backend.reads.overview()).lag == 0
        await stop_as_at_the_end(backend, "/gateway/reading/runs/projector")
        runs = KeyValue(backend.connection, backend.settings.runs_kv_bucket)
        await runs.put("r2", msgspec.json.encode(snapshot("r2")))
        first = await backend.reads.overview()
        assert (first.lag, first.stalled_seconds) == (1, 0.0)
        second = await backend.reads.overview()
        assert second.stalled_seconds > 0.0


def test_many_tags_are_told_together_but_for_the_busiest() -> None:
    queues = [
        Queue(tag=f"t{number:04}", pending=number % 7, ack_pending=number % 3)
        for number in range(5000)
    ]
    by_tag = _by_tag(queues, "pending")
    assert len(by_tag) == 201
    assert sum(by_tag.values()) == sum(queue.pending for queue in queues)
    assert by_tag["t0020"] == 6, "it has eight to do"
    assert "t0000" not in by_tag
    assert _by_tag(queues[:200], "pending") == {q.tag: q.pending for q in queues[:200]}
