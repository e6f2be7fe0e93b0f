"""The HTTP API over a real server, backend and NATS node."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from backend.stage import TAG, running
from http_api.gateway import YAML, client_of, events, gateway, yaml_form
from nats_fixtures import away
from pyoco_http.server import PortBusy, serve_http


async def test_a_yaml_run_from_submission_to_result(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (client, _):
        assert (await client.get("/health")).json() == {"status": "ok"}
        assert (await client.get("/health/ready")).json()["status"] == "ready"
        answer = await client.post("/runs/yaml", **yaml_form())
        assert answer.status_code == 200
        assert answer.json()["status"] == "PENDING"
        run_id = answer.json()["run_id"]
        path = f"/runs/{run_id}/watch?include=records"
        with trio.fail_after(60):
            async with events(client, path) as stream:
                async for event, data in stream:
                    assert event == "snapshot"
                    assert data["run_id"] == run_id
                    if data["snapshot"]["status"] == "COMPLETED":
                        break
        assert data["snapshot"]["task_records"]["to_text"]["output"] == "v=2"
        plain = (await client.get(f"/runs/{run_id}")).json()
        assert "task_records" not in plain
        assert "task_records_truncated" not in plain
        assert plain["workflow_yaml_bytes"] == len(YAML)
        assert (plain["worker_id"], plain["worker_alive"], plain["worker_tags"]) == (
            "w1",
            True,
            [TAG],
        )
        full = (await client.get(f"/runs/{run_id}?include=full")).json()
        assert full["task_records"]["add_one"]["output"] == 2
        tasks = (await client.get(f"/runs/{run_id}/tasks")).json()
        assert list(tasks) == [
            "run_id",
            "flow_name",
            "status",
            "tasks",
            "task_records",
            "task_records_truncated",
        ]
        assert tasks["tasks"] == {"add_one": "SUCCEEDED", "to_text": "SUCCEEDED"}


async def test_a_run_by_name_takes_params_and_tags(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        body = {"flow_name": "quick", "params": {"x": 1}, "tag": "a", "tags": ["a", "b"]}
        answer = await client.post("/runs", json=body)
        got = (await client.get(f"/runs/{answer.json()['run_id']}")).json()
        assert (got["tag"], got["tags"], got["params"]) == ("a", ["a", "b"], {"x": 1})
        answer = await client.post("/runs", json={"flow_name": "quick"})
        got = (await client.get(f"/runs/{answer.json()['run_id']}")).json()
        assert (got["tag"], got["tags"]) == ("default", ["default"])


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"{}", "flow_name"),
        (b'{"flow_name": ""}', "flow_name"),
        (b'{"flow_name": 1}', "flow_name"),
        (b"not json", "malformed"),
        (b'{"flow_name": "x", "params": []}', "params"),
        (b'{"flow_name": "x", "tag": "a.b"}', "tag"),
        (b"", "truncated"),
        (b'{"flow_name": "x", "params": ' + b"[" * 5000 + b"]" * 5000 + b"}", ""),
        (b'{"flow_name": "\xff"}', ""),
    ],
)
async def test_a_body_that_is_no_submission_is_refused(
    tmp_path: Path, content: bytes, word: str
) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        answer = await client.post("/runs", content=content)
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["err_id"] == "ERR-PYOCO-0002"
        assert problem["msg_id"] == "MSG-PYOCO-0002"
        assert word in json.dumps(problem)


@pytest.mark.parametrize(
    ("form", "status", "detail"),
    [
        (yaml_form(b"flow: {graph: a, typo: 1}"), 422, "invalid workflow yaml"),
        (yaml_form(b"\xff"), 422, "invalid workflow yaml"),
        (yaml_form(b"a: &x [1]\nb: *x"), 422, "invalid workflow yaml"),
        (yaml_form(b"flow: {graph: '__import__(\"os\")'}"), 422, "invalid workflow yaml"),
        (yaml_form(tag="a.b"), 422, "invalid tag"),
        (yaml_form(flow_name=" "), 422, "missing flow_name"),
        ({"data": {"flow_name": "main"}}, 422, "invalid workflow yaml"),
        (yaml_form(b"#" * 300_000), 413, "workflow too large"),
    ],
)
async def test_a_yaml_submission_that_is_refused(
    tmp_path: Path, form: dict[str, Any], status: int, detail: str
) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        answer = await client.post("/runs/yaml", **form)
        assert (answer.status_code, answer.json()["detail"]) == (status, detail)


async def test_params_that_do_not_fit_are_a_413_that_names_the_limit(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        for size in (300_000, 1_048_264, 2_000_000):
            body = {"flow_name": "x", "params": {"a": "y" * size}}
            answer = await client.post("/runs", json=body)
            assert answer.status_code == 413
            assert "at most" in answer.json()["detail"]


@pytest.mark.parametrize(
    "path", ["no-such-run", "%3E", "a%20b", "a..b", "x" * 500, "%00", "a%2Fb%3F"]
)
async def test_a_run_that_does_not_exist_is_a_404(tmp_path: Path, path: str) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        for suffix in ("", "/tasks", "/watch"):
            answer = await client.get(f"/runs/{path}{suffix}")
            assert answer.status_code == 404, (path, suffix)
        assert (await client.post("/runs/no-such-run/cancel")).json()["detail"] == "run not found"


async def test_a_watch_beats_and_ends_at_its_timeout(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        run_id = (await client.post("/runs", json={"flow_name": "x"})).json()["run_id"]
        with trio.fail_after(60):
            async with events(client, f"/runs/{run_id}/watch?timeout_sec=6") as stream:
                seen = [event async for event, _ in stream]
        assert seen == ["snapshot", "heartbeat"]


async def test_since_skips_a_state_that_is_known(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        run_id = (await client.post("/runs", json={"flow_name": "x"})).json()["run_id"]
        path = f"/runs/{run_id}/watch?timeout_sec=1&since=9999999999"
        async with events(client, path) as stream:
            assert [event async for event, _ in stream] == []


@pytest.mark.parametrize(
    "query", ["timeout_sec=0", "timeout_sec=601", "timeout_sec=x", "since=x", "timeout_sec=nan"]
)
async def test_a_watch_with_a_bad_query_is_refused(tmp_path: Path, query: str) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        run_id = (await client.post("/runs", json={"flow_name": "x"})).json()["run_id"]
        answer = await client.get(f"/runs/{run_id}/watch?{query}")
        assert answer.status_code == 422
        assert answer.json()["field"] in query


async def test_a_cancel_is_answered_with_the_snapshot(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        run_id = (await client.post("/runs", json={"flow_name": "x"})).json()["run_id"]
        answer = await client.post(f"/runs/{run_id}/cancel")
        assert answer.status_code == 200
        assert answer.json()["status"] == "CANCELLING"
        assert answer.json()["cancel_requested_at"] > 0


async def test_unknown_paths_and_methods_are_problems(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        missing = await client.get("/nowhere")
        assert (missing.status_code, missing.json()["detail"]) == (404, "not found")
        wrong = await client.delete("/runs")
        assert (wrong.status_code, wrong.json()["detail"]) == (405, "method not allowed")
        assert wrong.headers["content-type"] == "application/problem+json"


async def test_nats_away_is_a_503_in_good_time(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        run_id = (await client.post("/runs", json={"flow_name": "x"})).json()["run_id"]
        async with away(backend.node, backend.connection):
            with trio.fail_after(40):
                refused = await client.post("/runs", json={"flow_name": "x"})
                unread = await client.get(f"/runs/{run_id}")
                unready = await client.get("/health/ready")
        for answer in (refused, unread):
            assert answer.status_code == 503
            assert answer.json()["detail"].startswith("nats unavailable: ")
            assert answer.headers["retry-after"] == "1"
        assert unready.status_code == 503
        assert (await client.get("/health")).status_code == 200
        await backend.wait_ready(within=60)
        assert (await client.get(f"/runs/{run_id}")).status_code == 200


async def test_a_taken_port_is_said_so(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        with pytest.raises(PortBusy, match=str(client.base_url.port)):
            await serve_http(backend, host="127.0.0.1", port=client.base_url.port or 0)


async def test_the_server_stops_with_an_open_stream(tmp_path: Path) -> None:
    async with running(tmp_path, worker=False) as backend, trio.open_nursery() as nursery:
        url = await nursery.start(partial(serve_http, backend, host="127.0.0.1", port=0))
        async with client_of(url) as client:
            run_id = (await client.post("/runs", json={"flow_name": "x"})).json()["run_id"]
            async with events(client, f"/runs/{run_id}/watch?timeout_sec=600") as stream:
                await anext(stream)
                began = trio.current_time()
                nursery.cancel_scope.cancel()
    assert trio.current_time() - began < 15
