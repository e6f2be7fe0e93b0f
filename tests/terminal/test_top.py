"""`top` on a full screen, at 80 and 120 columns."""

from __future__ import annotations

import re

import pytest

from commands.calling import cancel, client, submit
from e2e.programs import Stage
from terminal.screens import CTRL_C, Terminal, on_terminal

pytestmark = [pytest.mark.slow, pytest.mark.nats]
ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"
TOP = ("pyoco-client", "top", "--interval-sec", "0.3")


@pytest.fixture(autouse=True)
def nothing_runs(stage: Stage) -> None:
    """What a test before left running, because it failed, would be counted here as well."""
    client(stage, "cancel", "--tag", "hello", "--wait", "--yes")
    client(stage, "worker-resume", "w1")


def row(terminal: Terminal, head: str) -> list[str]:
    return next((line.split() for line in terminal.lines if line.startswith(head)), [])


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (120, 40)])
def test_everything_is_on_one_screen_and_changes(stage: Stage, columns: int, lines: int) -> None:
    run_id = submit(stage, "wait").last["run_id"]
    with on_terminal(
        *TOP, folder=stage.folder, env=stage.env, columns=columns, lines=lines
    ) as terminal:
        before = terminal.attributes()
        terminal.see(lambda: row(terminal, run_id)[1:2] == ["RUNNING"], what="the running run")
        # A look may have come between what the run, its queue and its worker told.
        terminal.see(lambda: row(terminal, "hello")[1:3] == ["0", "1"], what="the executed job")
        terminal.see(lambda: row(terminal, "w1")[1:3] == ["RUNNING", "1/2"], what="the busy slot")
        assert terminal.lines[0].startswith(f"pyoco {stage.url}")
        terminal.see(lambda: "1 running" in terminal.lines[0], what="the count of runs")
        heads = [line.split()[0] for line in terminal.lines if re.match(r"\w+ .*  ", line)]
        assert [head for head in heads if head in {"queue", "worker", "actor", "run"}] == [
            "queue",
            "worker",
            "actor",
            "run",
        ]
        assert any(line.startswith("/gateway/") for line in terminal.lines)
        assert ("hello" in row(terminal, run_id)) == (columns == 120)  # the tag, if there is room

        cancel(stage, run_id)
        terminal.see(lambda: row(terminal, run_id)[1:2] == ["CANCELLED"], what="its end")
        assert terminal.lines[0].startswith("pyoco ")  # nothing has scrolled

        terminal.press(CTRL_C)
        assert terminal.end() == 130
        assert terminal.attributes() == before
        assert not terminal.screen.cursor.hidden
        assert terminal.raw.count(ENTER) == terminal.raw.count(LEAVE) == 1


def test_a_script_gets_one_look_as_json(stage: Stage) -> None:
    seen = client(stage, "top").last
    assert set(seen) == {
        *("at", "counts", "runs", "workers", "queues", "dead_letters", "actors", "progress"),
    }
    assert "w1" in {worker["worker_id"] for worker in seen["workers"]}


def test_a_gateway_that_is_away_is_told_on_the_screen(stage: Stage) -> None:
    with on_terminal(*TOP, folder=stage.folder, env=stage.env) as terminal:
        terminal.see(lambda: bool(row(terminal, "w1")), what="the worker")
        gateway = next(p for p in stage.programs if p.name == "pyoco-server")
        gateway.stop()
        terminal.see(lambda: terminal.lines[0].startswith("no answer"), what="the trouble")
        assert row(terminal, "w1")  # what was seen stays
        stage.gateway()
        terminal.see(lambda: terminal.lines[0].startswith("pyoco "), what="the gateway again")
        terminal.press(CTRL_C)
        assert terminal.end() == 130
