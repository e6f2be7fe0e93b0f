"""A state folder that cannot be used is told by its name, not by a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    ("command", "below"),
    [
        ("pyoco-worker --nats-url nats://127.0.0.1:1", "below"),
        ("pyoco-server dev --port 0", ""),
        ("pyoco-server up --port 0 --with-nats-bootstrap --nats-client-port 0", "below"),
        ("pyoco-server up --port 0 --detach", ""),
    ],
)
def test_it_is_named(tmp_path: Path, command: str, below: str) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / below
    program, *arguments = command.split()
    said = subprocess.run(
        [BIN / program, *arguments],
        env={**os.environ, "PYOCO_STATE_DIR": str(folder), "PYOCO_LOAD_DOTENV": "0"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (said.returncode, f"PYOCO_STATE_DIR is '{folder}'" in said.stderr) == (1, True)
    assert "Traceback" not in said.stderr
