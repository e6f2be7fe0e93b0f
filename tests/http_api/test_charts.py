"""When runs were submitted, how long they waited and ran, and the flow.yaml of a run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from http_api.gateway import YAML, gateway, yaml_form
from http_api.seeding import put_runs, snapshot
from pyoco_server.api.system import Percentiles
from pyoco_server.gateway.read_model.durations import SAMPLED_AT_MOST, durations
from pyoco_server.gateway.read_model.model import ReadModel
from pyoco_server.gateway.read_model.writer import Changes
from read_model.rows import row


async def test_submissions_are_counted_by_step_and_status_of_the_runs_that_fit(
    tmp_path: Path,
) -> None:
    start = time.time() - 1000

    def run(name: str, at: float, status: str = "COMPLETED", **changes: Any) -> dict[str, Any]:
        return snapshot(name, status=status, submitted_at=start + at, **changes)

    async with gateway(tmp_path, worker=False) as (client, backend):
        await put_runs(
            backend,
            [
                run("before", -1),
                run("a", 1),
                run("b", 99, "FAILED"),
                run("c", 101),
                run("d", 399, flow_name="other"),
                run("after", 401),
            ],
        )
        query = f"submitted_after={start}&submitted_before={start + 400}&steps=4"
        answer = (await client.get(f"/runs/counts?{query}")).json()
        found = {round(each["start"] - start): each["counts"] for each in answer["submissions"]}
        assert found == {
            0: {"COMPLETED": 1, "FAILED": 1},
            100: {"COMPLETED": 1},
            200: {},
            300: {"COMPLETED": 1},
        }
        assert answer["submissions_exact"] is True
        assert answer["total"] == 4
        answer = (await client.get(f"/runs/counts?{query}&flow=other&status=COMPLETED")).json()
        assert [len(each["counts"]) for each in answer["submissions"]] == [0, 0, 0, 1]
        # Up to now without an end; nothing without a beginning.
        answer = (await client.get(f"/runs/counts?submitted_after={start}&steps=1")).json()
        assert answer["submissions"][0]["counts"] == {"COMPLETED": 4, "FAILED": 1}
        assert (await client.get("/runs/counts?steps=4")).status_code == 422
        for times in ("submitted_after=-1e308&submitted_before=1e308", "submitted_after=1e308"):
            refused = await client.get(f"/runs/counts?steps=2&{times}")
            assert (refused.status_code, refused.json()["field"]) == (422, "submitted_after")
        assert "submissions" not in (await client.get("/runs/counts")).json()


async def test_stats_have_wide_steps_and_percentiles(tmp_path: Path) -> None:
    now = time.time()
    async with gateway(tmp_path, worker=False) as (client, backend):
        runs = [
            snapshot(f"r{n}", submitted_at=now - 7200 - n, start_time=now - 7200, end_time=now - 60)
            for n in range(1, 101)
        ]
        await put_runs(backend, runs)
        answer = (await client.get("/stats?minutes=1440&step_minutes=60&percentiles=1")).json()
        steps = answer["minutes"]
        assert len(steps) == 24
        assert all(each["start"] % 3600 == 0 for each in steps)
        assert sum(each["submitted"] for each in steps) == 100
        started = next(each for each in steps if each["started"])
        assert [round(started[f"wait_p{p}"]) for p in (50, 95, 99)] == [50, 95, 99]
        assert round(answer["percentiles"]["wait"]["p95"]) == 95
        assert round(answer["percentiles"]["run"]["p50"]) == 7140
        assert answer["percentiles"]["every"] == 1
        assert (
            len((await client.get("/stats?minutes=43200&step_minutes=480")).json()["minutes"]) == 90
        )
        refused = await client.get("/stats?minutes=43200")
        assert refused.status_code == 422
        assert refused.json()["field"] == "step_minutes"


async def test_of_many_runs_each_so_manieth_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyoco_server.gateway.read_model.durations.SAMPLED_AT_MOST", 100)
    assert SAMPLED_AT_MOST > 100
    rows = {
        f"r{n}": row(f"r{n}", seq=n + 1, submitted_at=0.0, start_time=n / 10, updated_at=100.0)
        for n in range(1000)
    }
    model = ReadModel(tmp_path)
    await model.open_writer()
    await model.write(lambda writer: writer.apply(Changes("b", True, 1000, rows, complete=True)))
    whole, _ = await model.read(lambda db: durations(db, None, 0, 1, 1))
    assert whole.every == 10
    assert 45 < whole.wait["p50"] < 55
    nothing = Percentiles(wait={}, run={}, every=1)
    assert await model.read(lambda db: durations(db, "nobody", 0, 1, 1)) == (nothing, {})
    await model.close()


async def test_the_flow_yaml_of_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, _):
        accepted = await client.post("/runs/yaml", **yaml_form())
        run_id = accepted.json()["run_id"]
        answer = await client.get(f"/runs/{run_id}/workflow")
        assert answer.content == YAML
        assert answer.headers["content-type"] == "application/yaml; charset=utf-8"
        assert answer.headers["x-content-type-options"] == "nosniff"
        other = (await client.post("/runs", json={"flow_name": "x"})).json()["run_id"]
        refused = await client.get(f"/runs/{other}/workflow")
        assert refused.status_code == 404
        assert refused.json()["reason"] == "the run brought no flow.yaml"
