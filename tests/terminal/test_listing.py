"""Lists on a narrow terminal and in a pipe: a line each, with whole ids."""

from __future__ import annotations

import json
import re

import pytest
import trio

from commands.calling import client, submit
from e2e.programs import Stage, wait_for
from pyoco_server.jetstream.connection import ConnectionOptions, open_connection
from pyoco_server.jetstream.publish import publish_acked
from terminal.screens import on_terminal

pytestmark = [pytest.mark.slow, pytest.mark.nats, pytest.mark.timeout(120)]


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
    head, *runs = shown(stage, "list", "--limit", "3")
    assert head.split() == ["run", "status", "changed", "flow", "tag", "error"]
    assert all(run.split()[1] in {"FAILED", "COMPLETED", "CANCELLED"} for run in runs)
    [run] = [run for run in runs if run.startswith(failed)]
    assert re.match(rf"{failed}  FAILED +\d+ (s|min) ago +main ", run)

    head, letter = shown(stage, "dlq", "list", "--run-id", failed)
    assert head.split() == ["seq", "reason", "age", "run", "flow", "error"]
    assert f"  {failed}  main" in letter
    assert "  execution_error  " in letter


def test_a_wide_terminal_and_a_pipe_have_room_for_errors(stage: Stage, failed: str) -> None:
    command = ("dlq", "list", "--run-id", failed)
    assert shown(stage, *command, columns=120)[1].endswith("bad luck")
    said = client(stage, *command, "--output", "text")
    assert said.lines[1].rstrip().endswith("bad luck")


def test_workers_are_a_line_each(stage: Stage, failed: str) -> None:
    head, worker = shown(stage, "workers")
    assert head.split() == ["worker", "state", "seen", "run", "last", "run", "tags"]
    assert worker.split()[-1] == "hello"


@pytest.mark.parametrize("command", ["get --records", "tasks", "events", "dlq show"])
def test_a_person_sees_where_it_failed(stage: Stage, failed: str, command: str) -> None:
    about = failed
    if command == "dlq show":
        letters = client(stage, "dlq", "list", "--run-id", failed).last["items"]
        about = str(letters[0]["seq"])
    text = "\n".join(shown(stage, *command.split(), about))
    assert "Traceback (most recent call last)" in text
    assert 'raise ValueError("bad luck")' in text
    assert "ValueError: bad luck" in text


def test_states_are_in_their_order_whoever_told_of_them_first(stage: Stage) -> None:
    run_id = submit(stage, "count", "--tag", "nobody").last["run_id"]

    async def write() -> None:
        async with open_connection(ConnectionOptions(urls=(stage.nats_url,))) as connection:
            await connection.wait_connected(within=20)
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
