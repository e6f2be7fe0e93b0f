"""Programs without a process of their own, which would cost each call a second on a busy machine."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, NamedTuple

from e2e.programs import Stage
from pyoco_cli.client import main


class Said(NamedTuple):
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def last(self) -> Any:
        """The last JSON document that it printed."""
        return json.loads(self.lines[-1])


def caught(program: Callable[[], int]) -> Said:
    """What a script gets of a program."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = program()
    return Said(code, out.getvalue(), err.getvalue())


def client(stage: Stage, *argv: str) -> Said:
    """What a script gets of `pyoco-client`."""
    return caught(lambda: main(["--server", stage.url, *argv]))


def submit(stage: Stage, name: str, *options: str) -> Said:
    """Submit one of the stage's flows."""
    path = str(stage.folder / f"{name}.yaml")
    return client(stage, "submit-yaml", "--tag", "hello", "--workflow-file", path, *options)


def cancel(stage: Stage, run_id: str) -> None:
    """Cancel a run and wait for its end."""
    said = client(stage, "cancel", "--wait", "--run-id", run_id)
    assert said.last["status"] == "CANCELLED", said
