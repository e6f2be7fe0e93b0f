"""`submit --follow`, `--wait` and `list --follow`, as a person and as a script see them."""

from __future__ import annotations

import json
import signal
import time

import pytest

from commands.calling import cancel, client, submit
from e2e.programs import Stage, wait_for
from terminal.screens import CTRL_C, on_terminal

pytestmark = [pytest.mark.slow, pytest.mark.nats]
SUBMIT = ("pyoco-client", "submit-yaml", "--tag", "hello", "--workflow-file")


@pytest.mark.parametrize("columns", [80, 120])
def test_a_person_sees_states_and_output_until_the_end(stage: Stage, columns: int) -> None:
    command = (*SUBMIT, "gated.yaml", "--follow")
    gate = stage.folder / "gate"
    gate.unlink(missing_ok=True)
    with on_terminal(*command, folder=stage.folder, env=stage.env, columns=columns) as terminal:
        terminal.see(lambda: "second  RUNNING" in terminal.text, what="a state while it runs")
        gate.touch()
        assert terminal.end() == 0
        lines = terminal.text.splitlines()
        assert [line for line in lines if line.startswith("first  line")] == [
            f"first  line {number}" for number in range(4)
        ]
        assert "second  line 3" in lines
        assert sum(line.startswith("COMPLETED  main  ") for line in lines) == 1
        assert {"  first   SUCCEEDED", "  second  SUCCEEDED"} <= set(lines)
        assert not terminal.screen.cursor.hidden


def test_a_failed_run_shows_why_and_is_the_exit_code(stage: Stage) -> None:
    with on_terminal(
        *SUBMIT, "fail.yaml", "--follow", folder=stage.folder, env=stage.env
    ) as terminal:
        assert terminal.end() == 1
        assert "second  about to fail" in terminal.lines
        assert "  second  FAILED" in terminal.lines
        assert "ERR-PYOCO-0007: execution failed" in terminal.lines


def test_ctrl_c_leaves_the_run_and_a_sane_terminal(stage: Stage) -> None:
    with on_terminal(
        *(*SUBMIT, "wait.yaml", "--flow-name", "left", "--follow"),
        folder=stage.folder,
        env=stage.env,
    ) as terminal:
        before = terminal.attributes()
        terminal.see(lambda: "second  waiting" in terminal.lines, what="its output")
        terminal.press(CTRL_C)
        assert terminal.end() == 130
        assert "the run goes on: pyoco-client watch" in terminal.text
        assert terminal.attributes() == before
        assert not terminal.screen.cursor.hidden
    [running] = client(stage, "list", "--flow", "left", "--status", "RUNNING").last
    cancel(stage, running["run_id"])


def test_a_script_gets_json_or_text_or_csv(stage: Stage) -> None:
    said = submit(stage, "count", "--follow")
    assert said.code == 0
    documents = [json.loads(line) for line in said.lines]
    assert documents[0]["status"] == "PENDING"
    assert documents[-1]["data"]["snapshot"]["status"] == "COMPLETED"
    # What tasks print comes with `--output text` only, as --help says: these are 0.5.1's documents.
    assert {document["event"] for document in documents[1:]} == {"snapshot"}
    assert "(JSON and CSV: states)" in " ".join(client(stage, "submit", "--help").out.split())

    said = submit(stage, "fail", "--follow", "--output", "text")
    assert said.code == 1
    assert any(line.endswith("task first  stdout:  line 0") for line in said.lines)
    assert any(line.endswith("task second  stderr:  about to fail") for line in said.lines)
    assert any("  run  FAILED" in line for line in said.lines)

    said = submit(stage, "count", "--follow", "--output", "csv")
    assert said.code == 0
    assert said.lines[0] == "ts,event,status,run_id"
    assert said.lines[-1].split(",")[2] == "COMPLETED"


def test_a_run_that_no_worker_takes_says_so(stage: Stage) -> None:
    said = submit(stage, "count", "--tag", "helo", "--wait", "--wait-timeout-sec", "1")
    assert said.code == 124
    assert "no worker that is there takes tag helo; there are workers for: " in said.err
    assert "hello" in said.err
    run_id = json.loads(said.lines[0])["run_id"]
    with on_terminal("pyoco-client", "get", run_id, folder=stage.folder, env=stage.env) as terminal:
        assert terminal.end() == 0
        assert "no worker that is there takes tag helo" in " ".join(terminal.text.split())
    assert "no worker" not in client(stage, "get", run_id).err
    client(stage, "cancel", run_id)
    assert "no worker" not in submit(stage, "count", "--wait").err


def test_waiting_tells_the_outcome_only(stage: Stage) -> None:
    said = submit(stage, "count", "--wait")
    assert (said.code, said.last["status"]) == (0, "COMPLETED")
    said = submit(stage, "fail", "--wait")
    assert (said.code, said.last["status"]) == (1, "FAILED")
    assert "bad luck" in said.err
    said = submit(stage, "wait", "--wait", "--wait-timeout-sec", "1")
    assert said.code == 124
    assert "wait timeout" in said.err
    run_id = json.loads(said.lines[0])["run_id"]
    cancel(stage, run_id)


@pytest.mark.parametrize("line", ["wait", "watch", "watch --until-terminal"])
def test_the_exit_code_is_the_outcome(stage: Stage, line: str) -> None:
    command, *more = line.split()
    ended = {name: submit(stage, name, "--wait").last["run_id"] for name in ("count", "fail")}
    assert client(stage, command, ended["count"], *more).code == 0
    failed = client(stage, command, ended["fail"], *more)
    assert failed.code == 1
    assert "ended FAILED: bad luck" in failed.err

    run_id = submit(stage, "wait").last["run_id"]
    waited = client(stage, command, run_id, *more, "--timeout-sec", "1")
    assert waited.code == 124
    assert f"run {run_id} is " in waited.err
    cancel(stage, run_id)
    assert client(stage, command, run_id, *more).code == 2


def test_a_watch_that_has_no_limit_ends_with_the_run_only(stage: Stage) -> None:
    run_id = submit(stage, "wait").last["run_id"]
    watch = stage.start("pyoco-client", "watch", run_id, "--output", "status")
    wait_for(lambda: "RUNNING" in watch.text(), what="the running run")
    assert watch.process.poll() is None
    cancel(stage, run_id)
    assert watch.wait() == 2
    assert client(stage, "watch", run_id, "--max-events", "1").code == 2


def test_list_filters_by_everything_that_the_gateway_knows(stage: Stage) -> None:
    began = time.time()
    run_id = submit(stage, "fail").last["run_id"]
    stage.ended(run_id)
    snapshot = stage.get(run_id)

    def found(*options: str) -> bool:
        runs = client(stage, "list", "--limit", "200", *options).last
        return run_id in {run["run_id"] for run in runs}

    sha256 = snapshot["workflow_yaml_sha256"]
    for options, misses in (
        (("--status", "FAILED,CANCELLED"), ("--status", "COMPLETED")),
        (("--worker-id", "w1"), ("--worker-id", "w2")),
        (("--text", "BAD LUCK"), ("--text", "good luck")),
        (("--workflow-yaml-sha256", sha256), ("--workflow-yaml-sha256", "0" * 64)),
        (("--updated-after", str(began)), ("--updated-before", str(began))),
        (("--submitted-after", str(began)), ("--submitted-before", str(began))),
    ):
        assert found(*options), options
        assert not found(*misses), misses


def test_list_follow_gives_each_change_once(stage: Stage) -> None:
    submit(stage, "count", "--wait")
    options = ("pyoco-client", "list", "--follow", "--limit", "1", "--flow", "main")
    follower = stage.start(*options)
    wait_for(lambda: follower.text().count("\n") >= 1, what="what there is")
    run_id = submit(stage, "count", "--wait").last["run_id"]

    def told() -> list[str]:
        runs = [json.loads(line) for line in follower.text().splitlines()]
        return [run["status"] for run in runs if run["run_id"] == run_id]

    wait_for(lambda: told()[-1:] == ["COMPLETED"], what="its end")
    assert set(told()) <= {"PENDING", "RUNNING", "COMPLETED"}
    assert told().count("COMPLETED") == 1
    follower.send(2)
    assert follower.wait() == 130


def test_list_follow_on_a_terminal_is_a_list_that_changes(stage: Stage) -> None:
    command = ("pyoco-client", "list", "--follow", "--status", "RUNNING")
    with on_terminal(*command, folder=stage.folder, env=stage.env) as terminal:
        before = terminal.attributes()
        terminal.see(lambda: any(line.startswith("run ") for line in terminal.lines))
        run_id = submit(stage, "wait").last["run_id"]
        terminal.see(lambda: any(line.startswith(run_id) for line in terminal.lines))
        cancel(stage, run_id)
        terminal.see(lambda: not any(line.startswith(run_id) for line in terminal.lines))
        terminal.press(CTRL_C)
        assert terminal.end() == 130
        assert terminal.attributes() == before
        assert not terminal.screen.cursor.hidden


def test_logs_have_the_task_in_front_of_each_line(stage: Stage) -> None:
    """Also where a line has not ended while others come; Ctrl-C tells how to see more."""
    run_id = submit(stage, "halves").last["run_id"]
    command = ("pyoco-client", "logs", run_id, "-f")
    with on_terminal(*command, folder=stage.folder, env=stage.env) as terminal:
        terminal.see(lambda: b"second  a whole\tline\r\n" in terminal.raw, what="its output")
        terminal.press(CTRL_C)
        assert terminal.end() == 130
        assert terminal.lines[:6] == [
            *(f"first  line {number}" for number in range(4)),
            "second  a whole line",
            "^Csecond  out without an end",
        ]
        assert "the run goes on: pyoco-client watch" in terminal.text
    # A program gets what was printed.
    said = client(stage, "logs", run_id, "--output", "text", "--task", "second")
    assert said.out == "out without an enda whole\tline\n"
    cancel(stage, run_id)


@pytest.mark.parametrize("command", ["logs", "events"])
def test_ctrl_c_while_following_tells_how_to_see_more(stage: Stage, command: str) -> None:
    run_id = submit(stage, "wait").last["run_id"]
    following = stage.start("pyoco-client", command, run_id, "-f")
    wait_for(lambda: "waiting" in following.text(), what="its output")
    following.send(signal.SIGINT)
    assert following.wait() == 130
    assert f"the run goes on: pyoco-client watch {run_id}" in following.text()
    cancel(stage, run_id)


def test_an_artifact_that_was_refused_is_told(stage: Stage) -> None:
    told = "not kept: ../x: its name leads out of the folder for artifacts"
    said = submit(stage, "refused", "--wait", "--output", "table")
    assert (said.code, told in said.out) == (0, True), said.out
    command = (*SUBMIT, "refused.yaml", "--follow")
    with on_terminal(*command, folder=stage.folder, env=stage.env) as terminal:
        assert terminal.end() == 0
        assert told in terminal.lines


def test_logs_of_a_task_that_the_run_does_not_have_are_refused(stage: Stage) -> None:
    """Whether they are followed or not; a task that printed nothing is no error."""
    run_id = submit(stage, "wait").last["run_id"]
    wait_for(lambda: client(stage, "tasks", run_id).last["tasks"], what="its tasks")
    for options in ((), ("-f",), ("--output", "text")):
        said = client(stage, "logs", run_id, "--task", "nope", *options)
        assert (said.code, said.out) == (1, "")
        assert f"run {run_id} has no task 'nope'" in said.err
        assert "first, second" in said.err
    cancel(stage, run_id)
    run_id = submit(stage, "refused", "--wait").last["run_id"]
    said = client(stage, "logs", run_id, "--task", "second")
    assert (said.code, said.out) == (0, "")
    # Of a run that no worker has begun, no task is known.
    waiting = ("--tag", "nobody", "--workflow-file", str(stage.folder / "wait.yaml"))
    run_id = client(stage, "submit-yaml", *waiting).last["run_id"]
    said = client(stage, "logs", run_id, "--task", "nope")
    assert (said.code, said.out) == (0, "")
    cancel(stage, run_id)
