"""Each row of the contract's HTTP table: what a call gives, and its errors in the contract's words."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.populated import Population, populate
from http_api.gateway import YAML, events, gateway
from http_api.keyed import KEYED, as_key, key_for
from http_api.test_lists import ITEM
from pyoco_http.flows import read_flow_file
from pyoco_http.problems import Problem
from pyoco_server.settings import Settings
from wheels.making import file_name, wheel_bytes

SNAPSHOT = ITEM | {
    "workflow_yaml_sha256",
    "workflow_yaml_bytes",
    "params",
    "tasks",
    "start_time",
    "end_time",
    "cancel_requested_at",
    "cancel_requested_by",
}
WHEEL = {
    "name",
    "size_bytes",
    "digest",
    "sha256_b64",
    "sha256_hex",
    "mtime",
    "nuid",
    "bucket",
    "tags",
}
EVENT = {
    "event_id",
    "occurred_at",
    "action",
    "wheel_name",
    "tags",
    "size_bytes",
    "sha256_hex",
    "replace",
    "actor",
    "source",
}


@dataclass
class Row:
    """A call, the status, and what the answer has: these fields, or this detail."""

    call: str
    status: int
    detail: str | None = None
    fields: set[str] = field(default_factory=set)
    send: dict[str, Any] = field(default_factory=dict)


def form(raw: bytes = YAML, name: str = "workflow", **fields: str) -> dict[str, Any]:
    return {"files": {name: ("flow.yaml", raw)}, "data": fields}


def wheel(name: str, data: bytes, **fields: str) -> dict[str, Any]:
    return {"files": {"wheel": (name, data)}, "data": fields}


def rows(there: Population) -> list[Row]:
    run = f"/runs/{there.ended}"
    large = YAML + b"#" * 300_000
    return [
        Row("GET /health", 200, fields={"status"}),
        Row("POST /runs", 200, fields={"run_id", "status"}, send={"json": {"flow_name": "x"}}),
        Row("POST /runs", 422, send={"json": {"flow_name": ""}}),
        Row("POST /runs", 422, send={"content": b"no json"}),
        Row("POST /runs", 422, "invalid tag", send={"json": {"flow_name": "x", "tag": "a.b"}}),
        Row("POST /runs/yaml", 200, fields={"run_id", "status"}, send=form(flow_name="m", tag="t")),
        Row("POST /runs/yaml", 422, "invalid workflow yaml", send=form(b"[", flow_name="m")),
        Row("POST /runs/yaml", 422, "invalid workflow yaml", send=form(name="x", flow_name="m")),
        Row("POST /runs/yaml", 422, "invalid tag", send=form(flow_name="m", tag="a.b")),
        Row("POST /runs/yaml", 422, "missing flow_name", send=form(tag="t")),
        Row("POST /runs/yaml", 413, "workflow too large", send=form(large, flow_name="m")),
        Row(f"GET {run}", 200, fields=SNAPSHOT | {"worker_alive", "worker_state", "worker_tags"}),
        Row(f"GET {run}?include=records", 200, fields={"task_records", "task_records_truncated"}),
        Row("GET /runs/nobody", 404, "run not found"),
        Row(f"GET {run}/tasks", 200, fields={"run_id", "flow_name", "status", "tasks"}),
        Row("GET /runs/nobody/tasks", 404, "run not found"),
        Row("GET /runs", 200, fields=ITEM),
        Row("GET /runs?include=full", 200, fields=SNAPSHOT),
        Row("GET /runs?updated_after=0", 200, fields={"items", "next_cursor"}),
        Row("GET /runs?limit=0", 422, "invalid list query"),
        Row("GET /runs?cursor=x", 422, "invalid list query"),
        Row("GET /runs?status=GONE", 422, "invalid list query"),
        Row("GET /runs/nobody/watch", 404, "run not found"),
        Row(f"POST {run}/cancel", 200, fields=SNAPSHOT),
        Row("POST /runs/nobody/cancel", 404, "run not found"),
        Row("GET /workers", 200, fields={"worker_id", "state", "hidden", "tags", "wheel_sync"}),
        Row("GET /workers?limit=501", 422, "invalid workers request"),
        Row("GET /workers?state=GONE", 422, "invalid workers request"),
        Row(
            f"PATCH /workers/{there.worker}",
            200,
            fields={"worker_id", "hidden", "updated_at"},
            send={"json": {"hidden": False}},
        ),
        Row("PATCH /workers/nobody", 404, "worker not found", send={"json": {"hidden": True}}),
        Row(f"PATCH /workers/{there.worker}", 422, send={"json": {"hidden": 3}}),
        Row("GET /wheels", 200, fields=WHEEL),
        Row("POST /wheels", 200, fields=WHEEL, send=wheel(file_name(), wheel_bytes(), tags="a,b")),
        Row("POST /wheels", 422, "invalid wheel name", send=wheel("a/b.whl", wheel_bytes())),
        Row("POST /wheels", 422, "invalid wheel filename", send=wheel("a.whl", wheel_bytes())),
        Row(
            "POST /wheels",
            422,
            "invalid wheel tags",
            send=wheel(file_name(), wheel_bytes(), tags="a.b"),
        ),
        Row("POST /wheels", 413, "wheel too large", send=wheel(file_name(), bytes(200_000))),
        Row(
            "POST /wheels",
            409,
            "wheel version already exists; bump version",
            send=wheel(there.wheel, wheel_bytes("secret", "1.0", {"secret/x.py": "y = 2"})),
        ),
        Row(
            "POST /wheels",
            409,
            "wheel version must be greater than existing latest version",
            send=wheel(file_name("secret", "0.9"), wheel_bytes("secret", "0.9")),
        ),
        Row(f"GET /wheels/{there.wheel}", 200),
        Row("GET /wheels/none-1.0-py3-none-any.whl", 404, "wheel not found"),
        Row("GET /wheels/history", 200, fields=EVENT),
        Row("GET /wheels/history?limit=501", 422),
        Row(f"DELETE /wheels/{there.wheel}", 200, fields={"name", "deleted"}),
        Row(f"DELETE /wheels/{there.wheel}", 404, "wheel not found"),
        Row("GET /metrics", 200),
        Row("GET /", 200),
        Row("GET /static/nothing.js", 404),
    ]


async def check(client: httpx.AsyncClient, row: Row, key: str) -> str | None:
    """What is wrong with the answer to a row's call."""
    method, _, path = row.call.partition(" ")
    answer = await client.request(method, path, headers=as_key(key), **row.send)
    if answer.status_code != row.status:
        return f"{row.call}: {answer.status_code} {answer.text[:200]}, not {row.status}"
    if row.status >= 400:
        problem = answer.json()
        named = isinstance(problem["detail"], str) and "err_id" in problem and "msg_id" in problem
        if not named or row.detail not in (None, problem["detail"]):
            return f"{row.call}: {answer.text[:200]}, not {row.detail}"
    elif row.fields:
        body = answer.json()
        one = body[0] if isinstance(body, list) else body
        if missing := row.fields - set(one):
            return f"{row.call}: without {sorted(missing)}"
    return None


async def test_each_row_of_the_contract(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False, wheel_max_bytes=100_000, **KEYED) as (
        client,
        backend,
    ):
        key, record = await key_for(backend, "a")
        there = await populate(client, backend, key, "a")
        found = [await check(client, row, key) for row in rows(there)]
        assert [wrong for wrong in found if wrong] == []
        metrics = (await client.get("/metrics", headers=as_key(key))).text
        for name in (
            "pyoco_runs_total{status=",
            "pyoco_runs_today_total{status=",
            "pyoco_workers_alive_total",
            "pyoco_dlq_messages_total",
        ):
            assert name in metrics
        asked = await client.post(f"/runs/{there.pending}/cancel", headers=as_key(key))
        assert asked.json()["cancel_requested_by"] == f"api_key:{record.key_id}"


async def test_a_watch_gives_the_snapshot_at_once(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        run_id = (await client.post("/runs", json={"flow_name": "x"})).json()["run_id"]
        async with events(client, f"/runs/{run_id}/watch?timeout_sec=1") as stream:
            name, data = await anext(stream)
        assert name == "snapshot"
        assert set(data) >= {"run_id", "snapshot", "ts"}
        assert data["snapshot"]["status"] == "PENDING"


texts = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=12,
)
FLOW_KEYS = st.sampled_from(
    [
        "version",
        "flow",
        "tasks",
        "runtime",
        "pipes",
        "flows",
        "graph",
        "defaults",
        "callable",
    ]
)


LINES = [
    *YAML.decode().splitlines(),
    *("a: &x [*x]", "<<: *x", "- !!python/object:os.system x", "2024-01-01: 1"),
]


def as_yaml(value: object) -> bytes:
    return json.dumps(value, default=str).encode()


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.binary(max_size=300)
    | st.text(max_size=300).map(str.encode)
    | st.dictionaries(FLOW_KEYS, texts, max_size=5).map(as_yaml)
    | st.lists(st.sampled_from(LINES), max_size=12).map("\n".join).map(str.encode)
)
def test_any_bytes_are_a_flow_yaml_or_refused_by_a_problem(raw: bytes) -> None:
    refused: Problem | None = None
    try:
        flow = read_flow_file(raw, Settings(workflow_yaml_max_bytes=262_144))
    except Problem as problem:
        refused = problem
    if refused is not None:
        assert (refused.status, str(refused)) == (422, "invalid workflow yaml")
        return
    json.dumps(flow.defaults, allow_nan=False)
    assert flow.text.encode() == raw
