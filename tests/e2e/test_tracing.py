"""One request followed by its id: from the HTTP header to the lines of gateway, worker and task."""

from __future__ import annotations

import json
from typing import Any

import httpx

from e2e.programs import KILL, Program, Stage, wait_for

REQUEST = "order-4711/retry:2"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
SENT = {"X-Request-ID": REQUEST, "traceparent": PARENT}
MODULE = """\
import os


def tell():
    print(os.environ["PYOCO_REQUEST_ID"], os.environ["TRACEPARENT"])
    raise ValueError("told")
"""
FLOW = 'flow: {graph: tell}\ntasks: {tell: {callable: "telling:tell"}}\n'
CONTRACT = {
    *("ts", "service", "level", "logger", "message", "pathname"),
    *("lineno", "func", "process", "thread"),
}


def lines(program: Program, **fields: Any) -> list[dict[str, Any]]:
    """The log lines of a process that have these fields."""
    found = [json.loads(text) for text in program.text().splitlines() if text.startswith("{")]
    return [line for line in found if fields.items() <= line.items()]


def submit(stage: Stage, flow: str = FLOW) -> httpx.Response:
    return httpx.post(
        f"{stage.url}/runs/yaml",
        files={"workflow": ("flow.yaml", flow.encode())},
        data={"flow_name": "main", "tag": "hello"},
        headers=SENT,
        timeout=60,
    )


def test_a_request_is_followed_from_its_header_to_the_lines_of_its_task(stage: Stage) -> None:
    stage.env["PYOCO_LOG_LEVEL"] = "info"
    (stage.folder / "telling.py").write_text(MODULE)
    nats = stage.nats()
    gateway = stage.gateway()
    worker = stage.worker("--slots", "1")

    answer = submit(stage)
    assert answer.headers["X-Request-ID"] == REQUEST
    run_id = answer.json()["run_id"]
    snapshot = stage.ended(run_id)
    assert (snapshot["status"], snapshot["request_id"]) == ("FAILED", REQUEST)

    (access,) = lines(gateway, message="request", request_id=REQUEST)
    assert access.keys() >= CONTRACT
    assert (access["method"], access["path"], access["status"]) == ("POST", "/runs/yaml", 200)
    assert (access["run_id"], access["trace_id"]) == (run_id, TRACE)
    assert access["service"] == "pyoco-server:http"

    wait_for(lambda: lines(worker, message="run ended"), what="the worker's last line of the run")
    of_run = lines(worker, request_id=REQUEST)
    assert [line["message"] for line in of_run] == ["run started", "execution failed", "run ended"]
    for line in of_run:
        assert line.keys() >= CONTRACT
        assert line["service"] == "pyoco-server:worker"
        assert (line["run_id"], line["flow_name"], line["tag"]) == (run_id, "main", "hello")
        assert (line["worker_id"], line["trace_id"]) == ("w1", TRACE)
    failed, ended = of_run[1:]
    assert (failed["err_id"], failed["msg_id"]) == ("ERR-PYOCO-0007", "MSG-PYOCO-0007")
    assert (ended["status"], ended["attempt"]) == ("FAILED", 1)

    printed = httpx.get(f"{stage.url}/runs/{run_id}/logs", params={"format": "text"}, timeout=60)
    assert printed.text == f"{REQUEST} {PARENT}\n"

    # The next run is another request's.
    other = stage.submit()
    stage.ended(other)
    wait_for(lambda: lines(worker, message="run ended", run_id=other))
    (line,) = lines(worker, message="run started", run_id=other)
    assert line["request_id"] != REQUEST
    assert "trace_id" not in line

    # Running it again is a request as well.
    again = httpx.post(
        f"{stage.url}/runs/{run_id}/retry", headers={"X-Request-ID": "again"}, timeout=60
    ).json()["run_id"]
    assert stage.ended(again)["request_id"] == "again"

    # What an actor has to say of a request has its id, too.
    nats.send(KILL)
    nats.wait()
    assert submit(stage).status_code == 503
    (refused,) = wait_for(lambda: lines(gateway, message="run not accepted"))
    assert (refused["request_id"], refused["trace_id"]) == (REQUEST, TRACE)
    assert refused["err_id"] == "ERR-PYOCO-0003"
