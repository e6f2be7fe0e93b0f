"""What the encoding of a terminal or a pipe does not have is told as an escape."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from e2e.programs import BIN


@pytest.mark.parametrize("output", ["text", "json"])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_name_that_cannot_be_printed(tmp_path: Path, encoding: str, output: str) -> None:
    flow = tmp_path / "flow.yaml"
    flow.write_text("flow: {graph: 集計}\ntasks: {集計: {calable: 'm:f'}}\n", encoding="utf-8")
    done = subprocess.run(
        [str(BIN / "pyoco-client"), "check", str(flow), "--output", output],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    said = done.stdout.decode(encoding)
    assert ("集計" if (encoding, output) == ("utf-8", "text") else "\\u96c6\\u8a08") in said
