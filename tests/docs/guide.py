"""Runs the commands of a guide as they stand there, on a stage of its own."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from e2e.programs import BIN, Stage, open_stage

_CONSOLE = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


@contextmanager
def open_hub_stage(folder: Path) -> Iterator[Stage]:
    """A stage on which a page starts a hub with ``up --detach``, and takes it down if it comes to that."""
    with open_stage(folder) as stage:
        try:
            yield stage
        finally:
            subprocess.run(
                [BIN / "pyoco-server", "down"],
                cwd=folder,
                env=stage.env,
                timeout=120,
                check=False,
            )


def console_lines(page: Path) -> Iterator[str]:
    """Each command of a page."""
    return console_lines_of(page.read_text())


def console_lines_of(text: str) -> Iterator[str]:
    """Each command of a text; a backslash or an open quote joins lines as a shell does."""
    for block in _CONSOLE.findall(text):
        command = ""
        for line in block.splitlines():
            command += line
            if line.endswith("\\") or command.count("'") % 2:
                command += "\n"
            else:
                yield command
                command = ""
        assert not command, f"a command without an end: {command!r}"


def type_into_shell(stage: Stage, command: str, words: Mapping[str, str]) -> str:
    """Run a command of a page, with ``<placeholders>`` and usual ports replaced; return what it printed."""
    for name, value in words.items():
        command = command.replace(f"<{name}>", value)
    command = command.replace("http://127.0.0.1:8000", stage.url)
    command = command.replace("nats://127.0.0.1:4222", stage.nats_url)
    done = subprocess.run(
        ["bash", "-euc", command],
        cwd=stage.folder,
        env={**stage.env, "PATH": f"{BIN}:{os.environ['PATH']}", "PYOCO_SERVER_URL": stage.url},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
