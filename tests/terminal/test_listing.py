"""Lists on a narrow terminal and in a pipe: a line each, with whole ids."""

from __future__ import annotations

import csv
import io
import json
import re
import signal

import pytest
import trio

from commands.calling import cancel, client, submit
from e2e.programs import Stage, wait_for
from pyoco_server.jetstream.connection import ConnectionOptions, open_connection
from pyoco_server.jetstream.publish import publish_acked
from terminal.screens import on_terminal

pytestmark = [pytest.mark.slow, pytest.mark.nats]


@pytest.fixture(scope="module")
def failed(stage: Stage) -> str:
    """A run with a dead letter."""
    run_id = str(submit(stage, "fail", "--wait").last["run_id"])
    wait_for(
        lambda: client(stage, "dlq", "list", "--run-id", run_id).last["items"], what="a letter"
    )
    return run_id


def shown(stage: Stage, *command: str, columns: int = 80) -> list[str]:
    argv = ("pyoco-client", *command)
    with on_terminal(*argv, folder=stage.folder, env=stage.env, columns=columns) as terminal:
        assert terminal.end() == 0
        return [line for line in terminal.text.splitlines() if line]


def test_runs_and_dead_letters_are_a_line_each(stage: Stage, failed: str) -> None:
    head, *runs = shown(stage, "list", "--text", failed)
    assert head.split() == ["run", "status", "changed", "flow", "worker", "tag"]
    [run] = [run for run in runs if run.startswith(failed)]
    assert re.match(rf"{failed}  FAILED +\d+ (s|min) ago +main +w1 +hello$", run)

    head, letter = shown(stage, "dlq", "list", "--run-id", failed)
    # The error as well, while the letter is so young that its age leaves room for it.
    assert head.split()[:5] == ["seq", "reason", "age", "run", "flow"]
    assert f"  {failed}  main" in letter
    assert "  execution_error  " in letter


def test_a_wide_terminal_and_a_pipe_have_room_for_errors(
    stage: Stage, failed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    command = ("dlq", "list", "--run-id", failed)
    assert shown(stage, *command, columns=120)[1].endswith("bad luck")
    head, *runs = shown(stage, "list", "--text", failed, columns=120)
    assert head.split() == ["run", "status", "changed", "flow", "worker", "tag", "error"]
    assert runs[0].endswith("  bad luck")
    said = client(stage, *command, "--output", "text")
    assert said.lines[1].rstrip().endswith("bad luck")


def test_all_runs_or_how_many_there_are(stage: Stage, failed: str) -> None:
    for _ in range(3):
        submit(stage, "count", "--tag", "nobody", "--flow-name", "counted")
    assert len(client(stage, "list", "--flow", "counted", "--all").last) == 3
    more = shown(stage, "list", "--flow", "counted", "--limit", "2")
    assert more[-1] == "2 of 3, --limit or --all"
    assert "of" not in shown(stage, "list", "--flow", "counted")[-1].split()
    assert client(stage, "list", "--all", "--limit", "5").code == 1
    for run in client(stage, "list", "--flow", "counted").last:
        client(stage, "cancel", run["run_id"])


def test_a_long_flow_name_goes_on_in_the_next_line(stage: Stage) -> None:
    name = "a-flow-with-a-rather-long-name-that-is-wanted-whole"
    run_id = submit(stage, "count", "--tag", "nobody", "--flow-name", name).last["run_id"]
    _, *lines = shown(stage, "list", "--flow", name)
    assert lines[0].startswith(run_id)
    assert "".join(line[56:].strip() for line in lines).endswith(name)
    client(stage, "cancel", run_id)


@pytest.mark.parametrize(
    "command",
    [
        "list",
        "list-vnext",
        "get RUN",
        "tasks RUN",
        "events RUN",
        "logs RUN",
        "watch RUN",
        "wait RUN",
        "artifacts RUN",
        "workers",
        "wheels",
        "wheel-history",
        "dlq list",
        "dlq show SEQ",
        "top",
    ],
)
def test_every_command_prints_every_format(stage: Stage, failed: str, command: str) -> None:
    seq = str(client(stage, "dlq", "list", "--run-id", failed).last["items"][0]["seq"])
    argv = [{"RUN": failed, "SEQ": seq}.get(word, word) for word in command.split()]
    documents = client(stage, *argv, "--output", "jsonl").lines
    rows = list(csv.DictReader(io.StringIO(client(stage, *argv, "--output", "csv").out)))
    assert len(rows) == len(documents)
    if command in {"get RUN", "wait RUN"}:
        assert [row["run_id"] for row in rows] == [failed]
    if rows:
        first = json.loads(documents[0])
        assert (rows[0].keys() & first.keys()) or command == "watch RUN"
    for line in client(stage, *argv, "--output", "json").lines:
        json.loads(line)
    text = "\n".join(client(stage, *argv, "--output", "table").lines)
    assert text
    assert not text.startswith(("[", "{"))


def test_workers_are_a_line_each(stage: Stage, failed: str) -> None:
    head, *workers = shown(stage, "workers")
    assert head.split() == ["worker", "state", "seen", "run", "last", "run", "tags"]
    [worker] = [line for line in workers if line.startswith("w1 ")]
    assert worker.split()[-1] == "hello"


def test_a_run_is_named_by_as_much_of_its_id_as_no_other_has(stage: Stage, failed: str) -> None:
    ended = submit(stage, "count", "--wait").last["run_id"]
    short = failed[:8]
    for line in (
        "get",
        "tasks",
        "events",
        "logs",
        "artifacts",
        "watch",
        "wait",
        "dlq list --run-id",
    ):
        said = client(stage, *line.split(), short)
        assert said.code == (1 if line in {"watch", "wait"} else 0), said
        assert failed in said.out or line in {"events", "logs"}
    retried = client(stage, "retry", ended[:8]).last
    assert retried["retry_of"] == ended
    stage.ended(retried["run_id"])
    waiting = submit(stage, "count", "--tag", "nobody").last["run_id"]
    assert client(stage, "cancel", waiting[:13]).last["run_id"] == waiting


def test_an_ambiguous_beginning_names_the_candidates(stage: Stage) -> None:
    ids = [submit(stage, "count", "--tag", "nobody").last["run_id"] for _ in range(17)]
    short = next(one[0] for one in ids if sum(other[0] == one[0] for other in ids) > 1)
    said = client(stage, "cancel", short)
    assert (said.code, said.out) == (1, "")
    assert f"run id {short} is ambiguous: {short}" in said.err
    assert " PENDING main" in said.err
    for run_id in ids:
        client(stage, "cancel", run_id)


@pytest.mark.parametrize("line", ["cancel", "cancel a --run-id b", "cancel a --flow f"])
def test_a_cancel_is_of_one_run(stage: Stage, line: str) -> None:
    said = client(stage, *line.split())
    assert said.code == 1
    assert "usage: pyoco-client cancel [OPTIONS] RUN_ID" in said.err


def test_all_of_a_flow_are_cancelled_when_that_is_meant(stage: Stage) -> None:
    waiting = submit(stage, "wait", "--flow-name", "stopped").last["run_id"]
    more = [submit(stage, "count", "--tag", "nobody", "--flow-name", "stopped") for _ in range(2)]
    ids = {waiting, *(said.last["run_id"] for said in more)}
    other = submit(stage, "count", "--tag", "nobody", "--flow-name", "goes-on").last["run_id"]
    wait_for(lambda: stage.get(waiting)["status"] == "RUNNING", what="a run that is executed")
    unsaid = client(stage, "cancel", "--flow", "stopped")
    assert (unsaid.code, unsaid.out) == (1, "")
    assert "3 runs would be cancelled" in unsaid.err
    assert "--yes" in unsaid.err

    command = ("pyoco-client", "cancel", "--flow", "stopped", "--reason", "wrong date")
    with on_terminal(*command, folder=stage.folder, env=stage.env) as terminal:
        terminal.see(lambda: "3 runs have not ended. Cancel them all?" in terminal.text)
        terminal.press(b"n\r")
        assert terminal.end() == 130
    assert stage.get(waiting)["status"] == "RUNNING"
    said = client(stage, *command[1:], "--wait", "--yes")
    assert {run["run_id"] for run in said.last} == ids
    assert {run["status"] for run in said.last} == {"CANCELLED"}
    assert {run["cancel_reason"] for run in said.last} == {"wrong date"}
    assert client(stage, *command[1:]).last == []
    assert stage.get(other)["status"] == "PENDING"
    client(stage, "cancel", "--tag", "nobody", "--wait", "--yes")
    assert stage.get(other)["status"] == "CANCELLED"


def test_all_are_asked_to_end_before_the_end_of_one_is_waited_for(stage: Stage) -> None:
    queued = submit(stage, "count", "--tag", "nobody", "--flow-name", "stuck").last["run_id"]
    stuck = submit(stage, "wait", "--flow-name", "stuck").last["run_id"]
    wait_for(lambda: stage.get(stuck)["status"] == "RUNNING", what="a run that is executed")
    worker = next(each for each in stage.programs if each.name == "pyoco-worker")
    worker.send(signal.SIGSTOP)
    try:
        listed = client(stage, "list", "--flow", "stuck").last
        assert [run["run_id"] for run in listed] == [stuck, queued], "the other one comes later"
        said = client(stage, "cancel", "--flow", "stuck", "--yes", "--wait", "--timeout-sec", "1")
    finally:
        worker.send(signal.SIGCONT)
    assert said.code == 1
    assert {run["run_id"]: run["status"] for run in said.last} == {
        stuck: "CANCELLING",
        queued: "CANCELLED",
    }
    assert f"1 run has not ended: {stuck}" in said.err
    wait_for(lambda: stage.get(stuck)["status"] == "CANCELLED", what="its end")


def test_a_cancel_tells_a_person_what_it_means(stage: Stage, failed: str) -> None:
    run_id = submit(stage, "wait").last["run_id"]
    later = submit(stage, "wait", "--delay", "1h").last["run_id"]
    wait_for(lambda: stage.get(run_id)["status"] == "RUNNING", what="a run that is executed")
    seen = {}
    for each in (run_id, later, failed):
        command = ("pyoco-client", "cancel", each)
        with on_terminal(*command, folder=stage.folder, env=stage.env, columns=120) as terminal:
            assert terminal.end() == 0
            seen[each] = " ".join(terminal.text.split())
    assert (
        "terminated after the worker's grace period (PYOCO_CANCEL_GRACE_PERIOD_SEC" in seen[run_id]
    )
    assert "grace period" not in seen[later]
    assert "nothing was cancelled: the run had ended FAILED" in seen[failed]
    cancel(stage, run_id)


def test_a_paused_worker_says_so_everywhere(stage: Stage) -> None:
    client(stage, "cancel", "--tag", "hello", "--wait", "--yes")
    assert client(stage, "worker-pause", "w1").last["paused"] is True
    try:
        wait_for(
            lambda: "IDLE paused" in client(stage, "workers", "--output", "table").out,
            what="a worker that is idle and paused",
        )
        assert any(
            line.startswith("w1  ") and "IDLE paused" in line for line in shown(stage, "workers")
        )
        assert "IDLE paused" in client(stage, "top", "--output", "table").out
        nats = ("--nats-url", stage.nats_url)
        status = stage.run("pyoco-server", "status", "--output", "table", *nats)
        assert "IDLE paused" in status
        doctor = stage.start("pyoco-server", "doctor", "--no-gateway", *nats)
        doctor.wait()
        assert "workers.paused" in doctor.text()
    finally:
        assert client(stage, "worker-resume", "w1").last["paused"] is False


def test_a_drain_is_waited_for(stage: Stage) -> None:
    worker = stage.worker("--slots", "1", tags="other", worker_id="w2")
    wait_for(lambda: "w2" in client(stage, "workers").out, what="the worker")
    path = str(stage.folder / "wait.yaml")
    run_id = client(stage, "submit-yaml", "--tag", "other", "--workflow-file", path).last["run_id"]
    wait_for(lambda: stage.get(run_id)["status"] == "RUNNING", what="the run")
    said = client(stage, "worker-drain", "w2", "--wait", "--timeout-sec", "0.2")
    assert said.code == 124
    assert "worker w2 has not stopped after 0.2 s" in said.err
    cancel(stage, run_id)
    said = client(stage, "worker-drain", "w2", "--wait")
    assert said.code == 0
    assert worker.wait() == 0


def test_a_retry_is_followed_and_its_dead_letter_goes(stage: Stage) -> None:
    run_id = submit(stage, "fail", "--wait").last["run_id"]
    wait_for(
        lambda: client(stage, "dlq", "list", "--run-id", run_id).last["items"], what="a letter"
    )
    said = client(stage, "retry", run_id, "--follow")
    assert said.code == 1
    assert said.last["data"]["snapshot"]["status"] == "FAILED"
    assert client(stage, "dlq", "list", "--run-id", run_id).last["items"] == []


def test_states_are_in_their_order_whoever_told_of_them_first(stage: Stage) -> None:
    run_id = submit(stage, "count", "--tag", "nobody").last["run_id"]

    async def write() -> None:
        async with open_connection(ConnectionOptions(urls=(stage.nats_url,))) as connection:
            await connection.wait_connected(within=60)
            for status, revision in (("CANCELLING", 10**9), ("RUNNING", 10**8)):
                event = {"type": "state", "at": 0.0, "status": status, "revision": revision}
                message = json.dumps([event]).encode()
                await publish_acked(connection, f"pyoco.events.{run_id}", message)

    trio.run(write)

    def told() -> list[str]:
        lines = client(stage, "events", run_id, "--output", "text").lines
        return [line.split()[3] for line in lines]

    assert told() == ["PENDING", "RUNNING", "CANCELLING"]
    client(stage, "cancel", "--run-id", run_id)
