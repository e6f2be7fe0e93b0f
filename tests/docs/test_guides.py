"""The commands of the guides do what the guides say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from docs.guide import console_lines, type_into_shell
from docs.pages import ROOT
from e2e.programs import FLOW_YAML, HTTP, Stage, open_stage, wait_for

pytestmark = pytest.mark.slow

GUIDES = ROOT / "docs/guides"
FAILING = 'flow: {graph: work}\ntasks: {work: {callable: "failing:work"}}\n'
MODULE = """\
import sys


def work():
    print("to stdout")
    print("to stderr", file=sys.stderr)
    raise ValueError("it broke")
"""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with open_stage(tmp_path_factory.mktemp("guides")) as stage:
        stage.nats()
        stage.gateway()
        stage.env["PYOCO_CANCEL_GRACE_PERIOD_SEC"] = "1"
        stage.worker("--slots", "1")
        yield stage


def letter_of(stage: Stage, run_id: str) -> str | None:
    found = HTTP.get(f"{stage.url}/dlq", params={"run_id": run_id}).json()["items"]
    return str(found[0]["seq"]) if found else None


def run_that_failed(stage: Stage) -> dict[str, str]:
    """The placeholders of the page: a run, and its dead letter."""
    run_id = stage.submit(FAILING)
    stage.ended(run_id)
    return {"run_id": run_id, "seq": wait_for(lambda: letter_of(stage, run_id), what="a letter")}


def test_logs_and_history(stage: Stage) -> None:
    (stage.folder / "failing.py").write_text(MODULE)
    words = run_that_failed(stage)
    run_id = words["run_id"]
    for command in console_lines(GUIDES / "logs-and-history.md"):
        if command.startswith("pyoco-client dlq drop"):
            assert letter_of(stage, run_id) is None  # it went when its run was submitted again
            words = run_that_failed(stage)
        said = type_into_shell(stage, command, words)
        match command.split()[1:]:
            case ["logs", _]:
                streams = {json.loads(line)["stream"] for line in said.splitlines()}
                assert streams == {"stdout", "stderr"}
            case ["logs", _, "-f", *_]:
                assert sorted(said.splitlines()) == ["to stderr", "to stdout"]
            case ["logs", _, "--task", *_]:
                assert said == "to stderr\n"
            case ["events", _, "--output", "text"]:
                found = re.findall("PENDING|RUNNING|FAILED", said)
                assert (found[0], found[-1]) == ("PENDING", "FAILED")
            case ["events", *_]:
                kinds = {json.loads(line)["type"] for line in said.splitlines()}
                assert kinds == {"state", "task"}
            case ["-sS", "-N", *_]:
                assert "event: end" in said
            case ["-sS", *_]:
                assert "to stdout\n" in said
            case ["dlq", "list", *_]:
                assert run_id in said
            case ["dlq", "show", *_]:
                assert json.loads(said)["reason"] == "execution_error"
            case ["dlq", "drop", *_]:
                assert letter_of(stage, words["run_id"]) is None
            case ["dlq" | "retry", *_]:
                assert stage.get(json.loads(said)["run_id"])["retry_of"] == words["run_id"]
            case other:
                raise AssertionError(f"not known how to look at {other}")


def test_submitting(stage: Stage) -> None:
    said = [type_into_shell(stage, c, {}) for c in console_lines(GUIDES / "submitting.md")]
    one, batch = map(json.loads, said)
    assert one["status"] == "PENDING"
    assert (batch["accepted"], batch["rejected"]) == (1, 1)
    assert batch["items"][1]["error"]["detail"] == "invalid tag"


def test_run_life(stage: Stage) -> None:
    (stage.folder / "flow.yaml").write_text(FLOW_YAML)
    run_id = stage.submit(stage.slow_flow(60))
    other = stage.worker("--slots", "1", tags="other", worker_id="w2")

    def seen() -> bool:
        workers = HTTP.get(f"{stage.url}/workers").json()
        return any(worker["worker_id"] == "w2" for worker in workers)

    wait_for(seen, what="the other worker's record")
    words = {"run_id": run_id, "worker_id": "w2"}
    for command in console_lines(GUIDES / "run-life.md"):
        said = json.loads(type_into_shell(stage, command, words))
        match command.split()[1]:
            case "cancel":
                assert (said["status"], said["cancel_reason"]) == ("CANCELLED", "wrong input")
            case "submit-yaml":
                end = stage.ended(said["run_id"])
                assert (end["timeout_sec"], end["max_attempts"]) == (60, 3)
            case "worker-pause" | "worker-resume" | "worker-drain" as order:
                assert said["paused"] == (order == "worker-pause")
            case unknown:
                raise AssertionError(f"not known how to look at {unknown}")
    assert other.wait() == 0


def test_schedules(stage: Stage) -> None:
    page = GUIDES / "schedules.md"
    [text] = re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    (stage.folder / "schedules.yaml").write_text(text)
    (stage.folder / "cleanup.yaml").write_text(FAILING)
    for command in console_lines(page):
        said = json.loads(type_into_shell(stage, command, {}).splitlines()[-1])
        match command.split()[2]:
            case "create" | "show":
                assert said["schedule_id"] == "nightly"
            case "list":
                assert [item["schedule_id"] for item in said["items"]] == ["nightly"]
            case "next":
                assert [tick["local"][11:16] for tick in said["ticks"]] == ["02:30"] * 3
            case "ticks":
                assert said["items"] == []
            case "trigger":
                assert stage.get(said["run_id"])["schedule_id"] == "nightly"
            case "pause" | "resume" as what:
                assert said["paused"] == (what == "pause")
            case "backfill":
                assert [item["outcome"] for item in said["items"]] == ["would_submit"] * 3
            case "apply":
                actions = {item["schedule_id"]: item["action"] for item in said["items"]}
                assert actions == {"cleanup": "create", "nightly": "keep"}
            case "delete":
                assert said["deleted"]
            case unknown:
                raise AssertionError(f"not known how to look at {unknown}")


def test_every_page_with_commands_is_run() -> None:
    run = {
        *("docs/guides/logs-and-history.md", "docs/guides/submitting.md"),
        "docs/guides/schedules.md",
        *("docs/guides/run-life.md", "docs/guides/cluster.md"),  # test_cluster_guide.py
        "docs/guides/operator-tasks.md",  # test_operator_tasks.py
        "docs/guides/times.md",
        "docs/guides/first-day.md",  # test_first_day.py
        "docs/guides/backup-and-restore.md",  # test_restore_guide.py
        *("docs/reference/http_api.md", "docs/reference/flow_yaml.md"),
        *("docs/tutorial/quickstart.md", "docs/tutorial/quickstart_ja.md"),  # test_commands.py
        "docs/explanation/performance.md",  # tests/benchmarks/test_benchmarks.py, tests/costs
    }
    pages = (ROOT / "docs").rglob("*.md")
    assert {str(page.relative_to(ROOT)) for page in pages if any(console_lines(page))} == run


def test_the_reference(stage: Stage) -> None:
    (stage.folder / "flow.yaml").write_text(FLOW_YAML)
    for command in console_lines(ROOT / "docs/reference/http_api.md"):
        assert json.loads(type_into_shell(stage, command, {}))["status"] == "PENDING"
    for command in console_lines(ROOT / "docs/reference/flow_yaml.md"):
        assert "add_one" in json.loads(type_into_shell(stage, command, {}))["tasks"]


def test_times(stage: Stage) -> None:
    (stage.folder / "flow.yaml").write_text(FLOW_YAML)
    words: dict[str, str] = {}
    for command in console_lines(GUIDES / "times.md"):
        said = type_into_shell(stage, command, words)
        match command.split()[1:]:
            case ["submit-yaml", *rest]:
                words.setdefault("run_id", json.loads(said)["run_id"])
                assert json.loads(said)["status"] == "PENDING"
                if "--delay" in rest:
                    assert json.loads(said)["state"] == "SCHEDULED"
            case ["list", "--status", "SCHEDULED"]:
                assert words["run_id"] in {run["run_id"] for run in json.loads(said)}
            case ["reschedule", *_]:
                moved = json.loads(said)
                assert (moved["run_id"], moved["state"]) == (words["run_id"], "SCHEDULED")
            case ["cancel", *_]:
                assert stage.ended(words["run_id"])["status"] == "CANCELLED"
            case other:
                raise AssertionError(f"nobody has looked at what this prints: {other}")
