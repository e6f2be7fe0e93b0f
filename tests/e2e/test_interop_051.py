"""Our gateway with 0.5.1's worker and client, our worker with 0.5.1's gateway."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.programs import FLOW_YAML, HTTP, Stage, last_json, wait_for

pytestmark = pytest.mark.slow


def test_the_old_client_submits_to_and_watches_our_gateway(stage: Stage, old_bin: Path) -> None:
    stage.nats()
    stage.gateway()
    stage.worker()
    (stage.folder / "flow.yaml").write_text(FLOW_YAML)
    said = stage.run(
        *f"pyoco-client --server {stage.url} submit-yaml --workflow-file flow.yaml".split(),
        *["--flow-name", "main", "--tag", "hello"],
        executable=old_bin,
    )
    run_id = last_json(said)["run_id"]
    watched = stage.run(
        *f"pyoco-client --server {stage.url} watch {run_id} --until-terminal".split(),
        *["--output", "status"],
        executable=old_bin,
    )
    assert watched.strip().splitlines()[-1].split("\t")[2] == "COMPLETED"
    got = last_json(
        stage.run(
            *f"pyoco-client --server {stage.url} get {run_id} --records".split(),
            executable=old_bin,
        )
    )
    assert got["task_records"]["to_text"]["output"] == "v=2"


def test_the_old_worker_executes_a_run_of_our_gateway(stage: Stage, old_bin: Path) -> None:
    stage.nats()
    stage.gateway()
    stage.start(
        *f"pyoco-worker --nats-url {stage.nats_url} --tags hello --worker-id old".split(),
        executable=old_bin,
        env={"PYTHONPATH": ""},
    )
    ended = stage.ended(stage.submit())
    assert ended["status"] == "COMPLETED"
    assert ended["task_records"]["to_text"]["output"] == "v=2"


def test_our_worker_executes_a_run_of_the_old_gateway(stage: Stage, old_bin: Path) -> None:
    stage.nats()
    stage.old_gateway(old_bin)
    stage.worker()
    ended = stage.ended(stage.submit())
    assert ended["status"] == "COMPLETED"
    assert ended["task_records"]["to_text"]["output"] == "v=2"

    def listed() -> bool:
        # 0.5.1 answers 503 while a record is being written and until there is one.
        answer = HTTP.get(f"{stage.url}/workers")
        return answer.status_code == 200 and [w["worker_id"] for w in answer.json()] == ["w1"]

    wait_for(listed, what="the old gateway's list of workers")
