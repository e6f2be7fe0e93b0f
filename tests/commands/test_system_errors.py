"""What the system refuses is told in a line, and what was begun by then can be gone on with."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, TextIO

import pytest

from commands.calling import caught
from pyoco_cli.client import batch, main


def full() -> TextIO:
    return Path("/dev/full").open("w")


def unread() -> TextIO:
    """A pipe whose reader has gone, as that of ``… | head``."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


class _Gateway:
    """Accepts all runs."""

    def submit_batch(self, runs: list[dict[str, Any]]) -> dict[str, Any]:
        return {"items": [{"run_id": run["idempotency_key"]} for run in runs]}


@contextmanager
def _gateway(_: object) -> Iterator[_Gateway]:
    yield _Gateway()


@pytest.mark.parametrize("output", [full, unread])
def test_a_batch_whose_answers_nobody_takes_names_its_key(
    output: Callable[[], TextIO], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "runs.jsonl"
    file.write_text(json.dumps({"params": {}}))
    monkeypatch.setattr(batch, "gateway", _gateway)
    err = io.StringIO()
    with suppress(BrokenPipeError), output() as out, redirect_stdout(out), redirect_stderr(err):
        code = main(["submit", "--batch-file", str(file)])
    assert code == 1
    assert "--idempotency-key " in err.getvalue()
    assert ("No space left" in err.getvalue()) == (output is full)


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text("def f(): ...\n")
    out = tmp_path / "out"
    out.touch()
    said = caught(lambda: main(["wheel-build", str(tmp_path), "--no-upload", "--out", str(out)]))
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("ERR-PYOCO-0018")
    assert f"File exists: '{out}'" in said.err
