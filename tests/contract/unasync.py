"""Writes the blocking client from the one for trio, in the way of httpcore's ``scripts/unasync.py``.

``uv run poe client`` writes it; `test_sync_client.py` says whether it is current.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

CLIENT: Final = Path(__file__).parents[2] / "actors" / "pyoco_server" / "client"

_HEAD: Final = (
    "# Written by tests/contract/unasync.py from {}: change that and run `uv run poe client`.\n"
)
# What the blocking client says in place of what the other one says: a pattern and its replacement.
RULES: Final[tuple[tuple[str, str], ...]] = (
    # Prose.
    (r"trio programs", "programs without an event loop"),
    (r"an async context manager", "a context manager"),
    (r"    Each of its methods may be cancelled .*\n    effect\. ", "    "),
    (r" Writing is done in a thread\.", ""),
    # trio.
    (r"await trio\.to_thread\.run_sync\((\S+), (.*)\)", r"\1(\2)"),
    (r"\btrio\.current_time\b", "time.monotonic"),
    (r"\btrio\.sleep\b", "time.sleep"),
    (r"^import trio\n", "import time\n"),
    # httpx, whose blocking generators need no help to end.
    (r"^.*\bexhaust\b.*\n", ""),
    (r"\baread\b", "read"),
    (r"\baiter_(\w+)", r"iter_\1"),
    # Python.
    (r"\bAsyncGenerator\[(\w+), None\]", r"Generator[\1, None, None]"),
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"__a(enter|exit)__", r"__\1__"),
    (r"\baclos(e|ing)\b", r"clos\1"),
    (r"\basynccontextmanager\b", "contextmanager"),
    # Names.
    (r"\bAsync(?=[A-Z])", ""),
    (r"\baio(?=\b|_)", "sync"),
)  # fmt: skip


def sources() -> list[Path]:
    """Return the modules of the client for trio."""
    return sorted(CLIENT.glob("aio*.py"))


def target(source: Path) -> Path:
    """Return where the blocking form of a module stands."""
    return source.with_name(source.name.replace("aio", "sync", 1))


def blocking(source: Path) -> str:
    """Return the blocking form of a module.

    Raises:
        subprocess.CalledProcessError: ruff cannot read what came of it.
    """
    text = source.read_text()
    for pattern, replacement in RULES:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    text = _HEAD.format(source.name) + text
    # F401 takes away what is not needed, UP028 makes `yield from` of a loop.
    fix = ("check", "--quiet", "--fix", "--unsafe-fixes", "--select=I,F401,UP028")
    return _ruff(("format", "--quiet"), _ruff(fix, text, target(source)), target(source))


def _ruff(command: tuple[str, ...], text: str, name: Path) -> str:
    return subprocess.run(
        ["ruff", *command, f"--stdin-filename={name}", "-"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


if __name__ == "__main__":
    for source in sources():
        target(source).write_text(blocking(source))
