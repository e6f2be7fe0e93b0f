"""Dead letters over HTTP, and running a run again."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import httpx
from msgspec.structs import replace

from backend.stage import TAG, ended, eventually, new_run, queued, started
from http_api.gateway import YAML, gateway, yaml_form
from http_api.keyed import KEYED, as_key, key_for, submitted
from http_api.test_depth import nested
from pyoco_server.backend import Backend
from pyoco_server.gateway.new_run import NewRun, RunTooLarge
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.jetstream.publish import publish_acked
from pyoco_server.model.api_key import Role
from pyoco_server.model.dead_letter import (
    DeadLetter,
)
from pyoco_server.model.json_text import encode_json
from pyoco_server.model.run import RunSnapshot, RunStatus
from pyoco_server.store.runs import RunStore


async def listed(client: httpx.AsyncClient, **query: Any) -> dict[str, Any]:
    answer = await client.get("/dlq", params=query)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


async def write(backend: Backend, number: int, **fields: Any) -> int:
    letter = DeadLetter(timestamp=float(number), reason="execution_error", error=f"error {number}")
    letter = replace(letter, **{"tag": TAG, **fields})
    ack = await publish_acked(backend.connection, f"pyoco.dlq.{letter.tag}", encode_json(letter))
    return ack.seq


async def failed(backend: Backend, run: NewRun) -> str:
    accepted = await backend.submit(run)
    assert (await ended(backend, accepted.run_id)).status == "FAILED"
    return accepted.run_id


async def test_a_failed_run_is_requeued_from_its_letter_which_goes(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (client, backend):
        run_id = await failed(backend, new_run("broken", some="param"))
        await eventually(lambda: queued(backend, "PYOCO_DLQ"), what="a dead letter")
        page = await listed(client)
        assert page["next_cursor"] is None
        [letter] = page["items"]
        assert letter["run_id"] == run_id
        assert letter["reason"] == "execution_error"
        assert "params" not in letter
        whole = (await client.get(f"/dlq/{letter['seq']}")).json()
        assert whole["params"] == {"some": "param"}

        answer = await client.post(f"/dlq/{letter['seq']}/requeue")
        assert answer.status_code == 200, answer.text
        assert answer.json()["retried_from"] == run_id
        assert answer.json()["status"] == "PENDING"
        again = await ended(backend, answer.json()["run_id"])
        assert again.retry_of == run_id
        assert again.params == {"some": "param"}
        gone = await client.post(f"/dlq/{letter['seq']}/requeue")
        assert gone.status_code == 404
        assert gone.json()["detail"] == "dead letter not found"


async def test_the_letter_of_a_run_that_is_run_again_goes_and_no_other(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (client, backend):
        before = await write(backend, 1, run_id="another")
        run_id = await failed(backend, new_run("broken"))
        other = await failed(backend, new_run("broken"))
        await eventually(lambda: letters_of(client, run_id), what="a dead letter")
        await eventually(lambda: letters_of(client, other), what="another dead letter")
        again = await client.post(f"/runs/{run_id}/retry")
        await ended(backend, again.json()["run_id"])
        assert not await letters_of(client, run_id)
        assert await letters_of(client, other)
        assert [letter["seq"] for letter in await letters_of(client, "another")] == [before]


async def letters_of(client: httpx.AsyncClient, run_id: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await listed(client, run_id=run_id))["items"]
    return items


async def test_a_letter_is_enough_when_the_run_is_gone_and_its_flow_yaml_comes_from_the_store(
    tmp_path: Path,
) -> None:
    async with gateway(tmp_path) as (client, backend):
        text = YAML.replace(b"add_one >> to_text", b"to_text")
        answer = await client.post("/runs/yaml", **yaml_form(text, flow_name="main", tag=TAG))
        run_id = answer.json()["run_id"]
        snapshot = await ended(backend, run_id)
        seq = await write(
            backend,
            1,
            run_id=run_id,
            flow_name="main",
            params={"x": 41},
            workflow_yaml_sha256=snapshot.workflow_yaml_sha256,
            workflow_yaml_bytes=snapshot.workflow_yaml_bytes,
        )
        await KeyValue(backend.connection, "pyoco_runs").delete(run_id)
        again = await client.post(f"/dlq/{seq}/requeue")
        assert again.status_code == 200, again.text
        repeated = await ended(backend, again.json()["run_id"])
        assert repeated.params == {"x": 41}
        assert repeated.workflow_yaml_sha256 == snapshot.workflow_yaml_sha256
        assert repeated.retry_of == run_id


async def test_letters_that_do_not_tell_enough_are_not_requeued(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (client, backend):
        await publish_acked(backend.connection, f"pyoco.work.{TAG}", b"no job at all")
        await eventually(lambda: queued(backend, "PYOCO_DLQ"), what="a dead letter")
        [invalid] = (await listed(client, reason="invalid_job"))["items"]
        gone = {"run_id": "gone", "flow_name": "f"}
        cases = {
            invalid["seq"]: "no job that can be read",
            await write(backend, 1, **gone): "params",
            await write(backend, 2, **gone, params={}, workflow_yaml_sha256="0" * 64): "flow.yaml",
            await write(backend, 3): "names no run",
        }
        for seq, reason in cases.items():
            answer = await client.post(f"/dlq/{seq}/requeue")
            assert answer.status_code == 409, answer.text
            assert reason in answer.json()["reason"]
            assert (await client.get(f"/dlq/{seq}")).status_code == 200


async def test_letters_are_listed_newest_first_by_page_and_filter(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        seqs = [
            await write(backend, n, run_id=f"run-{n}", tag="even" if n % 2 == 0 else "odd")
            for n in range(700)
        ]
        await publish_acked(backend.connection, "pyoco.dlq.odd", b"not a letter")
        newest = await listed(client, limit=1)
        assert newest["items"][0]["reason"] == "unreadable"
        assert newest["items"][0]["payload"] == "not a letter"

        seen: list[int] = []
        query: dict[str, Any] = {"limit": 200, "tag": "even"}
        while True:
            page = await listed(client, **query)
            assert len(page["items"]) <= 200
            seen += [item["seq"] for item in page["items"]]
            if page["next_cursor"] is None:
                break
            query["cursor"] = page["next_cursor"]
        assert seen == list(reversed(seqs[::2]))
        old = await listed(client, run_id="run-0")
        assert [item["seq"] for item in old["items"]] == [seqs[0]]
        assert (await listed(client, reason="timeout"))["items"] == []

        dropped = await client.delete(f"/dlq/{seqs[3]}")
        assert dropped.json() == {"seq": seqs[3], "deleted": True}
        assert (await listed(client, run_id="run-3"))["items"] == []
        for call in (client.delete, client.get):
            assert (await call(f"/dlq/{seqs[3]}")).status_code == 404
        for wrong in ("limit=0", "limit=201", "cursor=x"):
            assert (await client.get(f"/dlq?{wrong}")).status_code == 422
        assert (await client.get("/dlq/abc")).status_code == 404


async def test_an_empty_box_is_an_empty_page(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        assert await listed(client) == {"items": [], "next_cursor": None}


async def test_a_run_that_has_ended_is_run_again_and_no_other(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (client, backend):
        accepted = await backend.submit(new_run("quick", x=5))
        await ended(backend, accepted.run_id)
        key = {"Idempotency-Key": "once"}
        first = await client.post(f"/runs/{accepted.run_id}/retry", headers=key)
        assert first.status_code == 200, first.text
        assert first.json()["retry_of"] == accepted.run_id
        second = await client.post(f"/runs/{accepted.run_id}/retry", headers=key)
        assert second.json()["run_id"] == first.json()["run_id"]
        assert "Idempotent-Replay" not in first.headers
        assert second.headers["Idempotent-Replay"] == "true"
        other = await client.post(f"/runs/{accepted.run_id}/retry")
        assert other.json()["run_id"] != first.json()["run_id"]
        again = await ended(backend, first.json()["run_id"])
        assert (again.status, again.params, again.retry_of) == (
            "COMPLETED",
            {"x": 5},
            accepted.run_id,
        )
        view = (await client.get(f"/runs/{again.run_id}")).json()
        assert view["retry_of"] == accepted.run_id

        going_on = await backend.submit(new_run("slow"))
        await started(backend, going_on.run_id)
        refused = await client.post(f"/runs/{going_on.run_id}/retry")
        assert refused.status_code == 409
        assert "RUNNING" in refused.json()["reason"]
        missing = await client.post("/runs/nothing/retry")
        assert (missing.status_code, missing.json()["detail"]) == (404, "run not found")
        wrong = await client.post(
            f"/runs/{accepted.run_id}/retry", headers={"Idempotency-Key": "a b"}
        )
        assert wrong.status_code == 422


async def test_a_run_is_run_again_with_other_params(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (client, backend):
        accepted = await backend.submit(new_run("quick", x=5))
        await ended(backend, accepted.run_id)
        path = f"/runs/{accepted.run_id}/retry"
        again = await client.post(path, json={"params": {"x": 6}})
        assert (await ended(backend, again.json()["run_id"])).params == {"x": 6}
        key = {"Idempotency-Key": "once"}
        first = await client.post(path, json={"params": {"x": 7}}, headers=key)
        other = await client.post(path, json={"params": {"x": 8}}, headers=key)
        assert (first.status_code, other.status_code) == (200, 422)
        deep = json.loads(nested(100))
        wrongs: list[dict[str, Any]] = [{"params": [1]}, {"parms": {}}, {"params": deep}]
        for wrong in wrongs:
            refused = await client.post(path, json=wrong)
            assert refused.status_code == 422, refused.text
        assert refused.json()["field"] == "params"


async def test_a_run_whose_flow_yaml_is_lost_is_not_run_again(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (client, backend):
        answer = await client.post("/runs/yaml", **yaml_form(YAML, flow_name="main", tag=TAG))
        snapshot = await ended(backend, answer.json()["run_id"])
        assert snapshot.workflow_yaml_sha256 is not None
        store = KeyValue(backend.connection, "pyoco_workflows")
        await store.delete(snapshot.workflow_yaml_sha256)
        refused = await client.post(f"/runs/{snapshot.run_id}/retry")
        assert refused.status_code == 409, json.dumps(refused.json())
        assert "flow.yaml" in refused.json()["reason"]


async def test_another_tenants_letters_and_history_do_not_exist(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False, **KEYED) as (client, backend):
        key, record = await key_for(backend, "a")
        stranger = as_key((await key_for(backend, "b"))[0])
        reader = as_key((await key_for(backend, "a", roles=[Role.SUBMIT]))[0])
        run_id = await submitted(client, key)
        await backend.cancel(run_id)
        await ended(backend, run_id)
        seq = await write(backend, 1, tenant_id="a", run_id=run_id, flow_name="x", params={})
        own = await client.get("/dlq", headers=as_key(key))
        assert [item["seq"] for item in own.json()["items"]] == [seq]
        assert (await client.get("/dlq", headers=stranger)).json()["items"] == []
        for method, path in (
            ("GET", f"/dlq/{seq}"),
            ("POST", f"/dlq/{seq}/requeue"),
            ("DELETE", f"/dlq/{seq}"),
            ("GET", f"/runs/{run_id}/events"),
            ("GET", f"/runs/{run_id}/logs"),
            ("GET", f"/runs/{run_id}/graph"),
            ("POST", f"/runs/{run_id}/retry"),
        ):
            answer = await client.request(method, path, headers=stranger)
            assert answer.status_code == 404, path
        assert (await client.post(f"/dlq/{seq}/requeue", headers=reader)).status_code == 403
        again = await client.post(f"/dlq/{seq}/requeue", headers=as_key(key))
        assert again.status_code == 200, again.text
        repeated = await backend.get(again.json()["run_id"])
        assert (repeated.tenant_id, repeated.api_key_id) == ("a", record.key_id)


async def test_what_was_accepted_can_be_repeated_however_large_it_is(tmp_path: Path) -> None:
    """The run that repeats it is larger: it names the first one, and who asks."""
    asking = {"X-Request-ID": "r" * 128, "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    async with gateway(tmp_path) as (client, backend):
        for make in (_by_snapshot, _by_job):
            low, high = 0, 1_200_000
            largest: NewRun | None = None
            while high - low > 1:
                size = (low + high) // 2
                try:
                    backend._require_gateway().submitter._intake.draft(make(size), "i" * 36)
                except RunTooLarge:
                    high = size
                else:
                    low, largest = size, make(size)
            # A few bytes less: a time is a number of more or fewer digits.
            assert largest is not None
            run_id = await failed(backend, make(low - 10))
            retried = await client.post(f"/runs/{run_id}/retry", headers=asking)
            assert retried.status_code == 200, retried.text
            again = await ended(backend, retried.json()["run_id"])
            twice = await client.post(f"/runs/{again.run_id}/retry", headers=asking)
            assert twice.status_code == 200, twice.text
            await ended(backend, twice.json()["run_id"])
            for letter in (await listed(client, run_id=run_id))["items"]:
                path = f"/dlq/{letter['seq']}/requeue"
                assert (await client.post(path, headers=asking)).status_code == 200


def _by_snapshot(size: int) -> NewRun:
    return new_run("broken", text="x" * size)


def _by_job(size: int) -> NewRun:
    text = YAML.decode() + "#" + "x" * size
    raw = text.encode()
    return NewRun(
        "main",
        TAG,
        params={"x": "no number"},
        workflow_yaml=text,
        workflow_yaml_sha256=hashlib.sha256(raw).hexdigest(),
        workflow_yaml_bytes=len(raw),
    )


async def test_a_key_of_a_client_is_no_key_of_a_requeue(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        seq = await write(backend, 1, run_id="gone", flow_name="quick", params={"x": 1})
        for key in (f"dead-letter:{seq}:gone", f"{seq}:gone"):
            run = {"flow_name": "quick", "tag": TAG}
            taken = await client.post("/runs", json=run, headers={"Idempotency-Key": key})
            assert taken.status_code == 200
        requeued = await client.post(f"/dlq/{seq}/requeue")
        assert requeued.status_code == 200, requeued.text
        assert (await backend.get(requeued.json()["run_id"])).params == {"x": 1}


async def test_params_that_an_end_was_stored_without_are_not_run_again_as_none(
    tmp_path: Path,
) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        bucket = KeyValue(backend.connection, backend.settings.runs_kv_bucket)
        runs = RunStore(bucket, max_bytes=0)
        run = RunSnapshot(run_id="r", flow_name="quick", status=RunStatus.RUNNING, tag=TAG)
        room = (runs.max_snapshot_bytes or 0) - len(encode_json(replace(run, params={"x": ""})))
        full = replace(run, params={"x": "y" * room})
        stored = await runs.create(full)
        end = replace(full, status=RunStatus.FAILED, reason="execution_error", end_time=time.time())
        await runs.replace(stored, end)
        shown = (await client.get("/runs/r")).json()
        assert (shown["status"], shown["params"], shown["params_left_out"]) == ("FAILED", {}, True)

        bare = await write(backend, 1, run_id="r", flow_name="quick")
        whole = await write(backend, 2, run_id="r", flow_name="quick", params={"x": "kept"})
        for path in ("/runs/r/retry", f"/dlq/{bare}/requeue"):
            answer = await client.post(path)
            assert answer.status_code == 409, answer.text
            assert "its params are not kept" in answer.json()["reason"]
        assert [each["seq"] for each in await letters_of(client, "r")] == [whole, bare]
        answer = await client.post(f"/dlq/{whole}/requeue")
        assert (await backend.get(answer.json()["run_id"])).params == {"x": "kept"}
