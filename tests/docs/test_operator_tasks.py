"""An operator's ten tasks take at most two commands each, and these answer what was asked."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from commands.calling import client
from docs.guide import console_lines_of, type_into_shell
from docs.pages import ROOT
from e2e.programs import HTTP, Stage, open_stage, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.nats]

GUIDE = ROOT / "docs/guides/operator-tasks.md"
TASKS = """\
import time


def load(date):
    print(f"loading {date}", flush=True)
    if date == "2026-11-27":
        raise ValueError("no data for that day")
    return {"date": date, "rows": 3}


def hang():
    time.sleep(600)
"""
LOAD = (
    'flow: {graph: load, defaults: {date: "2026-11-27"}}\ntasks: {load: {callable: "night:load"}}\n'
)
HANG = 'flow: {graph: hang}\ntasks: {hang: {callable: "night:hang"}}\n'


CLIENT = "pyoco-client "


def sections() -> dict[str, list[str]]:
    """The commands of the guide by its headings."""
    _, *parts = re.split(r"^## ", GUIDE.read_text(), flags=re.MULTILINE)
    return {part.partition("\n")[0]: list(console_lines_of(part)) for part in parts}


def test_each_takes_two_commands_at_most() -> None:
    counts = [len(lines) for lines in sections().values()]
    assert len(counts) == 10
    assert set(counts) <= {1, 2}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with open_stage(tmp_path) as stage:
        stage.env |= {"PYOCO_SERVER_URL": stage.url, "PYOCO_NATS_URL": stage.nats_url}
        stage.env["PYOCO_CANCEL_GRACE_PERIOD_SEC"] = "0.1"
        (tmp_path / "night.py").write_text(TASKS)
        stage.nats()
        stage.gateway()
        stage.worker("--slots", "1", tags="gpu")
        yield stage


def submit(stage: Stage, flow_yaml: str, flow_name: str, tag: str = "gpu") -> str:
    form = {"flow_name": flow_name, "tag": tag}
    files = {"workflow": ("flow.yaml", flow_yaml.encode())}
    answer = HTTP.post(f"{stage.url}/runs/yaml", files=files, data=form)
    return str(answer.json()["run_id"])


def test_the_commands_answer_what_is_asked(stage: Stage) -> None:
    tasks = sections()
    words = {"task": "load"}

    def type_on(heading: str) -> list[str]:
        """What each command of a task prints; in this process, where a shell is not needed for it."""
        said = []
        for line in tasks.pop(next(each for each in tasks if heading in each)):
            if not line.startswith(CLIENT) or ">" in line:
                said.append(type_into_shell(stage, line, words))
                continue
            place = {f"<{name}>": value for name, value in words.items()}
            argv = shlex.split(line.removeprefix(CLIENT).replace("\\\n", ""))
            done = client(stage, *(place.get(word, word) for word in argv))
            assert done.code == 0, f"{line}\n{done}"
            said.append(done.out)
        return said

    failed = submit(stage, LOAD, "nightly")
    stage.ended(failed)
    wait_for(lambda: client(stage, "dlq", "list").last["items"], what="its dead letter")
    words["run_id"] = failed[:8]
    listed, got = type_on("failed last night")
    assert [run["run_id"] for run in json.loads(listed)] == [failed]
    assert "no data for that day" in json.loads(got)["error"]

    [again] = type_on("another date")
    again_id = json.loads(again)["run_id"]
    assert stage.ended(again_id)["params"] == {"date": "2026-11-28"}
    assert client(stage, "dlq", "list").last["items"] == []

    words["run_id"] = again_id[:8]
    printed, result = type_on("print")
    assert "loading 2026-11-28" in printed
    assert result == ""
    kept = json.loads((stage.folder / "result.json").read_text())
    assert kept == {"date": "2026-11-28", "rows": 3}

    stuck = submit(stage, HANG, "hang")
    wait_for(lambda: stage.get(stuck)["status"] == "RUNNING", what="the run that hangs")
    workers, running = map(json.loads, type_on("on gpu"))
    assert [worker["worker_id"] for worker in workers] == ["w1"]
    assert [(run["run_id"], run["worker_id"]) for run in running] == [(stuck, "w1")]
    assert client(stage, "workers", "--tag", "cpu").last == []

    waiting = [submit(stage, LOAD, "nightly"), submit(stage, LOAD, "nightly", tag="cpu")]
    pending, top = type_on("waiting")
    assert {run["run_id"] for run in json.loads(pending)} == set(waiting)

    def reasons() -> dict[str, str | None]:
        queues = client(stage, "top", "--once").last["queues"]
        return {queue["tag"]: queue["waiting_reason"] for queue in queues}

    assert set(json.loads(top)["queues"][0]) >= {"tag", "pending", "waiting_reason"}
    wait_for(lambda: reasons() == {"cpu": "no_worker", "gpu": "busy"}, what="the reasons")

    by = ("--requested-by", "kim", "--reason", "disk is full")
    assert client(stage, "worker-pause", "w1", *by).last["ordered_by"] == "kim"
    wait_for(lambda: reasons()["gpu"] == "paused", what="the other reason")
    [worker] = json.loads(type_on("paused this worker")[0])
    assert (worker["paused"], worker["ordered_by"]) == (True, "kim")
    assert worker["order_reason"] == "disk is full"
    assert worker["ordered_at"] == pytest.approx(time.time(), abs=60)

    stopped = json.loads(type_on("everything of a flow")[0])
    assert {run["run_id"] for run in stopped} == set(waiting)

    words["run_id"] = stuck[:8]
    [freed] = map(json.loads, type_on("stuck"))
    assert (freed["run_id"], freed["status"]) == (stuck, "CANCELLED")
    client(stage, "worker-resume", "w1")

    made, coming = map(json.loads, type_on("schedule"))
    assert made["schedule_id"] == "nightly-report"
    assert [tick["local"][-14:] for tick in coming["ticks"]] == ["02:30:00+09:00"] * 5

    assert "looked at: " in type_on("well")[0]
    assert tasks == {}
