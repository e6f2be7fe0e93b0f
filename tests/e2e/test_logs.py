"""The commands that read logs and events, as real processes."""

from __future__ import annotations

import json
import re
import signal

from e2e.programs import Stage, wait_for

MODULE = """\
import sys
import time
from pathlib import Path


def work(flag):
    print("first line")
    print("to stderr", file=sys.stderr)
    while not Path(flag).exists():
        time.sleep(0.01)
    print("last line")
"""
FLOW = """\
flow:
  graph: work
  defaults: {{flag: {flag}}}
tasks:
  work: {{callable: "talkative:work"}}
"""


def test_logs_and_events_of_a_run_are_printed_as_they_come_and_afterwards(stage: Stage) -> None:
    (stage.folder / "talkative.py").write_text(MODULE)
    flag = stage.folder / "go on"
    stage.nats()
    stage.gateway()
    stage.worker("--slots", "1")
    run_id = stage.submit(FLOW.format(flag=flag))
    client = ("pyoco-client", "--server", stage.url)

    following = stage.start(*client, "logs", run_id, "-f", "--output", "text")
    stopped = stage.start(*client, "events", run_id, "-f")
    wait_for(lambda: "first line" in following.text(), what="the first line")
    wait_for(lambda: '"type": "log"' in stopped.text(), what="an event")
    stopped.send(signal.SIGINT)
    assert stopped.wait() == 130
    assert "last line" not in following.text()
    flag.touch()
    assert following.wait() == 0
    assert sorted(following.text().splitlines()) == ["first line", "last line", "to stderr"]

    chunks = [json.loads(line) for line in stage.run(*client, "logs", run_id).splitlines()]
    assert {chunk["task"] for chunk in chunks} == {"work"}
    assert stage.run(
        *client, "logs", run_id, "--stream", "stdout", "--tail", "1", "--output", "text"
    ) == ("last line\n")
    told = stage.run(*client, "events", run_id, "--type", "state", "--output", "text")
    assert re.findall(r"PENDING|RUNNING|COMPLETED", told) == ["PENDING", "RUNNING", "COMPLETED"]
