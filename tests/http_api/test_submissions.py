"""Submitting over HTTP: repeated with a key, and by the batch; with the client and the command too."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from backend.stage import TAG, ended, queued
from http_api.gateway import YAML, gateway, yaml_form
from pyoco_server.client import AsyncPyocoHttpClient, RetryPolicy
from pyoco_server.client.answers import BatchAnswerDict
from pyoco_server.model.run import RunStatus

RUN = {"flow_name": "quick", "params": {"x": 1}, "tag": TAG}


def key(text: str) -> dict[str, str]:
    return {"Idempotency-Key": text}


async def test_a_repeat_is_answered_with_the_run_and_says_so(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        first = await client.post("/runs", json=RUN, headers=key("k"))
        again = await client.post("/runs", json=RUN, headers=key("k"))
        assert first.json() == again.json()
        assert "Idempotent-Replay" not in first.headers
        assert again.headers["Idempotent-Replay"] == "true"
        other = await client.post("/runs", json={**RUN, "params": {"x": 2}}, headers=key("k"))
        assert other.status_code == 422
        assert other.json()["detail"] == "idempotency key reused"
        assert first.json()["run_id"] in other.json()["reason"]


async def test_a_repeated_yaml_run_is_one_run(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        answers = [
            await client.post("/runs/yaml", **yaml_form(), headers=key("k")) for _ in range(3)
        ]
        assert len({answer.json()["run_id"] for answer in answers}) == 1
        assert await queued(backend) == 1


@pytest.mark.parametrize("text", ["x" * 256, "a b", ""])
async def test_what_is_no_key_is_refused(tmp_path: Path, text: str) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        answer = await client.post("/runs", json=RUN, headers=key(text))
        assert answer.status_code == 422
        assert answer.json()["detail"] == "invalid idempotency key"
        assert "1 to 255 visible ASCII characters" in answer.json()["reason"]


async def test_one_of_two_keys_is_not_chosen(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        run_id = (await client.post("/runs", json=RUN)).json()["run_id"]
        await client.post(f"/runs/{run_id}/cancel")
        before = await queued(backend)
        two = [*key("a").items(), *key("b").items()]
        for answer in (
            await client.post("/runs", json=RUN, headers=two),
            await client.post("/runs/yaml", **yaml_form(), headers=two),
            await client.post(f"/runs/{run_id}/retry", headers=two),
        ):
            assert answer.status_code == 422
            assert answer.json()["detail"] == "invalid idempotency key"
        assert await queued(backend) <= before


async def test_a_batch_has_an_answer_for_each_run_in_order(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (client, backend):
        runs: list[Any] = [
            RUN,
            {"flow_name": ""},
            {"flow_name": "quick", "tag": "no.tag"},
            "no run",
            {"flow_name": "main", "tag": TAG, "workflow_yaml": YAML.decode(), "params": {"x": 5}},
            {"flow_name": "main", "tag": TAG, "workflow_yaml": "flow: ["},
            {**RUN, "params": {"x": "y" * 300_000}},
            {**RUN, "idempotency_key": "k"},
            {**RUN, "idempotency_key": "k"},
            {**RUN, "idempotency_key": "a b"},
        ]
        answer = await client.post("/runs/batch", json={"runs": runs})
        assert answer.status_code == 200
        body = answer.json()
        assert (body["accepted"], body["rejected"]) == (4, 6)
        told = [
            (item["error"]["status"], item["error"]["detail"])
            if "error" in item
            else item["status"]
            for item in body["items"]
        ]
        assert told[:3] == ["PENDING", (422, "missing flow_name"), (422, "invalid tag")]
        assert told[3][0] == 422
        assert told[4:6] == ["PENDING", (422, "invalid workflow yaml")]
        assert told[6][0] == 413
        assert told[7:9] == ["PENDING", "PENDING"]
        assert told[9] == (422, "invalid idempotency key")
        assert all(item["error"]["err_id"] for item in body["items"] if "error" in item)
        assert body["items"][7]["run_id"] == body["items"][8]["run_id"]
        yaml_run = await ended(backend, body["items"][4]["run_id"])
        assert yaml_run.status is RunStatus.COMPLETED
        # The params of the item go over the defaults of the file.
        assert yaml_run.task_records["to_text"].output == "v=6"


async def test_a_batch_takes_no_key_for_all_of_its_runs(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        refused = await client.post("/runs/batch", json={"runs": [RUN]}, headers=key("k"))
        assert refused.status_code == 422
        assert refused.json()["field"] == "Idempotency-Key"
        assert "for each run" in refused.json()["reason"]
        assert await queued(backend) == 0


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_batch_of_too_few_or_too_many_runs_is_refused(tmp_path: Path, count: int) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        answer = await client.post("/runs/batch", json={"runs": [RUN] * count})
        assert answer.status_code == 422
        assert answer.json()["detail"] == f"a batch takes 1 to 1000 runs, not {count}"
        assert await queued(backend) == 0


async def test_a_thousand_runs_in_one_call(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        began = trio.current_time()
        answer = await client.post("/runs/batch", json={"runs": [RUN] * 1000})
        took = trio.current_time() - began
        body = answer.json()
        assert (body["accepted"], body["rejected"]) == (1000, 0)
        assert len({item["run_id"] for item in body["items"]}) == 1000
        assert await queued(backend) == 1000
        print(f"\n1000 runs in one call: {took:.2f} s, {1000 / took:.0f} runs/s")


class LosesAnswers(httpx.AsyncBaseTransport):
    """Passes calls on and loses the first answers, after the gateway has acted."""

    def __init__(self, lost: int) -> None:
        self._inner = httpx.AsyncHTTPTransport()
        self._lost = lost
        self.sent = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.sent += 1
        response = await self._inner.handle_async_request(request)
        if self._lost > 0:
            self._lost -= 1
            await response.aread()
            raise httpx.ReadError("the answer was lost")
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


async def test_the_client_repeats_a_submission_whose_answer_was_lost(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (plain, backend):
        transport = LosesAnswers(2)
        retry = RetryPolicy(attempts=3, first_seconds=0.01)
        async with AsyncPyocoHttpClient(
            str(plain.base_url), transport=transport, retry=retry
        ) as client:
            answer = await client.submit_run("quick", {"x": 1}, tag=TAG)
            assert transport.sent == 3
            assert (await backend.get(answer["run_id"])).params == {"x": 1}
            assert await queued(backend) == 1
            transport._lost = 1
            batch = await client.submit_batch([RUN, RUN])
            assert (batch["accepted"], await queued(backend)) == (2, 3)


async def test_a_client_that_does_not_repeat_sends_no_key(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (plain, _):
        transport = LosesAnswers(1)
        async with AsyncPyocoHttpClient(
            str(plain.base_url), transport=transport, retry=RetryPolicy(attempts=1)
        ) as client:
            with pytest.raises(httpx.ReadError):
                await client.submit_run("quick")
            assert transport.sent == 1


async def submitted_file(
    client: httpx.AsyncClient, file: Path, capfd: pytest.CaptureFixture[str]
) -> tuple[int, list[dict[str, Any]], str]:
    """Submit a file with the command: its exit code, the answers to its lines, and its errors."""
    from pyoco_cli.client import main

    argv = ["--server", str(client.base_url), "submit", "--batch-file", str(file)]
    run = partial(main, [*argv, "--flow-name", "quick", "--tag", TAG])
    capfd.readouterr()
    code = await trio.to_thread.run_sync(run)
    out, err = capfd.readouterr()
    items = [json.loads(line) for line in out.splitlines() if line.startswith('{"line"')]
    return code, items, err


async def test_the_command_submits_a_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        lines = [{"params": {"x": 1}}, {"flow_name": "other"}, {"tag": "no.tag"}]
        file = tmp_path / "runs.jsonl"
        file.write_text("\n\n".join(json.dumps(line) for line in lines))
        code, items, err = await submitted_file(client, file, capfd)
        assert code == 1
        assert [item["line"] for item in items] == [1, 3, 5]
        assert (await backend.get(items[0]["run_id"])).flow_name == "quick"
        assert (await backend.get(items[1]["run_id"])).flow_name == "other"
        assert items[2]["error"]["detail"] == "invalid tag"
        assert "1 of 3 runs were rejected; the first: line 5" in err


async def test_a_file_of_which_a_part_got_no_answer_is_submitted_to_its_end(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the key that the error names; without one it is submitted once more, as was meant."""
    from pyoco_cli.client import main
    from pyoco_server.client import PyocoHttpClient

    submit, calls = PyocoHttpClient.submit_batch, 0

    def lose_second(client: PyocoHttpClient, runs: list[dict[str, Any]]) -> BatchAnswerDict:
        nonlocal calls
        calls += 1
        answer = submit(client, runs)
        if calls == 2:
            raise httpx.ReadError("the answer was lost")
        return answer

    monkeypatch.setattr(PyocoHttpClient, "submit_batch", lose_second)
    monkeypatch.setattr("pyoco_cli.client.batch._RUNS_A_CALL", 2)
    async with gateway(tmp_path, worker=False) as (client, backend):
        file = tmp_path / "runs.jsonl"
        file.write_text('{"flow_name": "quick"}\n' * 5 + '{"idempotency_key": "own"}\n')
        argv = ["--server", str(client.base_url), "submit", "--batch-file", str(file), "--tag", TAG]

        async def submitted(*more: str) -> tuple[int, int, str]:
            code = await trio.to_thread.run_sync(main, [*argv, *more])
            return code, await queued(backend), capfd.readouterr().err

        code, jobs, err = await submitted()
        assert (code, jobs) == (1, 4)
        option = re.search("with (--idempotency-key) ([0-9a-f]+) the same command goes on", err)
        assert option is not None
        assert (await submitted(*option.groups()))[:2] == (0, 6)
        assert (await submitted())[:2] == (0, 11)


async def test_a_file_is_submitted_in_pieces_that_the_gateway_takes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with gateway(tmp_path, worker=False, http_max_body_bytes=20_000) as (client, backend):
        file = tmp_path / "runs.jsonl"
        lines = [{"params": {"x": "x" * 1000}}] * 50 + [{"params": {"x": "x" * 30_000}}]
        file.write_text("\n".join(map(json.dumps, lines)))
        code, items, err = await submitted_file(client, file, capfd)
        assert code == 1
        assert [item["line"] for item in items] == [*range(1, 52)]
        assert await queued(backend) == 50
        assert items[-1]["error"]["status"] == 413
        assert "1 of 51 runs were rejected; the first: line 51" in err


async def test_a_flow_that_names_what_it_may_not_is_refused_with_its_place(tmp_path: Path) -> None:
    shell = "flow:\n  graph: a\ntasks:\n  a:\n    callable: subprocess:getoutput\n"
    ours = shell.replace("subprocess:getoutput", "ours.tasks:f")
    async with gateway(tmp_path, worker=False, flow_callables="ours.*, wheel:*") as (
        client,
        backend,
    ):
        form = {"flow_name": "main", "tag": TAG}

        async def send(text: str) -> httpx.Response:
            files = {"workflow": ("flow.yaml", text.encode())}
            return await client.post("/runs/yaml", data=form, files=files)

        for answer in (await send(shell), await client.post("/flows/check", content=shell)):
            assert answer.status_code == 422
            assert answer.json()["detail"] == "invalid workflow yaml"
            assert "'subprocess:getoutput' is not allowed" in answer.json()["reason"]
            assert "PYOCO_FLOW_CALLABLES" in answer.json()["reason"]
            assert answer.json()["line"] == 5
        runs = [{"flow_name": "main", "tag": TAG, "workflow_yaml": text} for text in (shell, ours)]
        batch = (await client.post("/runs/batch", json={"runs": runs})).json()
        assert (batch["accepted"], batch["rejected"]) == (1, 1)
        assert "'subprocess:getoutput'" in json.dumps(batch["items"][0])
        assert (await send(ours)).status_code == 200
        assert await queued(backend) == 2
