"""The programs of 0.5.1 and ours, called with the same command lines, and what they say made comparable."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from commands.calling import Said, caught

MODULES = {
    "pyoco-client": "pyoco_server.client_cli",
    "pyoco-worker": "pyoco_server.worker_cli",
    "pyoco-server": "pyoco_server.server_cli",
    "pyoco-server-admin": "pyoco_server.admin_cli",
}
ERROR = re.compile(r"ERR-PYOCO-\w+: .+\n- reason: .+\n(?:- .+\n)*- (?:usage|hint): .+\n")

_UUID = re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b")
_FRESH_WHEEL = re.compile(r"\bfresh\d+\b")
_CHANGES = {
    "mtime",
    "digest",
    "request_id",
    "sha256_b64",
    "sha256_hex",
    "nuid",
    "event_id",
    "api_key",
    "key_id",
}
_ANY_NUMBER = re.compile(r"(?:^|(?<=[ \t]))[0-9.e+-]+(?=\t|$)")


class Old:
    """The programs of 0.5.1."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self, program: str, argv: list[str]) -> Said:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps({"module": MODULES[program], "argv": argv}) + "\n")
        stdin.flush()
        return Said(**json.loads(stdout.readline()))


@contextmanager
def old_programs(old_bin: Path, folder: Path, env: Mapping[str, str]) -> Iterator[Old]:
    """Have the programs of 0.5.1 at hand, in a process of their own."""
    process = subprocess.Popen(
        [str(old_bin / "python"), str(Path(__file__).with_name("old_driver.py"))],
        cwd=folder,
        env={**env, "PYTHONPATH": ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield Old(process)
        assert process.stdin is not None
        process.stdin.close()


def our_program(program: str, argv: list[str]) -> Said:
    """One of our programs, in this process."""
    module = importlib.import_module(
        f"pyoco_cli.{program.removeprefix('pyoco-').replace('server-', '')}"
    )
    return caught(lambda: module.main(argv))


def split(line: str, places: Callable[[str], str]) -> list[str]:
    """The words of a command line; ``{name}`` in one of them is asked of ``places`` each time."""
    return [
        re.sub(r"\{(\w+)\}", lambda match: places(match[1]), word) for word in shlex.split(line)
    ]


def metrics_of(text: str) -> set[str]:
    """The names that a page of metrics holds, without labels, which come with what happens."""
    return {re.split(r"[ {]", line)[0] for line in text.splitlines() if not line.startswith("#")}


def documents(text: str) -> list[Any]:
    """What a command printed, without what is different each time; lines that are no JSON as they are."""
    found: list[Any] = []
    for line in text.splitlines():
        try:
            found.append(_plain(json.loads(line)))
        except ValueError:
            found.append(_ANY_NUMBER.sub("<number>", _plain(line)))
    return found


def _plain(value: Any, key: str = "") -> Any:
    match value:
        case dict():
            return {_plain(k): _plain(v, k) for k, v in value.items()}
        case list():
            return [_plain(each) for each in value]
        case str() if key in _CHANGES:
            return f"<{key}>"
        case str():
            return _FRESH_WHEEL.sub("<fresh>", _UUID.sub("<id>", value))
        case float() | int() if value > 1e9 or key == "size_bytes":
            return "<number>"
        case _:
            return value
