"""What the command lines of the comparison name: runs, wheels and files, made when they are asked for."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import httpx

from e2e.programs import FLOW_YAML, Stage
from wheels.making import file_name, wheel_bytes

_FILES: dict[str, str | bytes] = {
    "flow.yaml": FLOW_YAML,
    "wrong.yaml": "flow:\n  graph: a\ntasks: {}\nflows: {}\n",
    "large.yaml": "# " + "x" * 300_000 + "\n",
    "params.json": '{"x": 3}',
    "params.yaml": "x: 3\ny: [1, 2]\n",
    "list.json": "[1]",
    "broken.json": "{a: [",
    "latin.yaml": b"# caf\xe9\n",
    "text.whl": "no archive",
    "resolver.py": "resolve = 1\n",
}
_ENTRY_POINTS = "[pyoco.tasks]\na = a:b\n"
_numbers = itertools.count(1)


class Places:
    """The values of ``{name}`` in command lines, on one stage with a gateway."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        for name, content in _FILES.items():
            data = content if isinstance(content, bytes) else content.encode()
            (stage.folder / name).write_bytes(data)
        ended = str(stage.ended(stage.submit())["run_id"])
        self._makers: dict[str, Callable[[], str]] = {
            "folder": lambda: str(stage.folder),
            "ended": lambda: ended,
            "waiting": lambda: stage.submit(tag="nobody"),
            "wheel": lambda: str(self._wheel(_ENTRY_POINTS)),
            "poor_wheel": lambda: str(self._wheel("", "Name: poor\nVersion: 1.0\n")),
            "there": lambda: self._uploaded().name,
            "path_there": lambda: str(self._uploaded()),
            "nats": lambda: stage.nats_url,
            "busy": lambda: str(stage.nats_port),
        }

    def __call__(self, name: str) -> str:
        """The value of a place.

        ``folder``: where the files are. ``ended``: a run that has ended. ``waiting``: a new one that
        nobody executes. ``wheel``: the path of a new wheel; ``poor_wheel`` lacks what preflight wants.
        ``there``: the name of a new wheel in the registry, ``path_there`` its path. ``nats``: the URL of
        NATS. ``busy``: a port that is in use.
        """
        return self._makers[name]()

    def _wheel(self, entry_points: str, metadata: str | None = None) -> Path:
        package = f"fresh{next(_numbers)}"
        path = self._stage.folder / file_name(package)
        path.write_bytes(wheel_bytes(package, entry_points=entry_points, metadata=metadata))
        return path

    def _uploaded(self) -> Path:
        path = self._wheel(_ENTRY_POINTS)
        answer = httpx.post(
            f"{self._stage.url}/wheels", files={"wheel": (path.name, path.read_bytes())}, timeout=60
        )
        assert answer.status_code == 200, answer.text
        return path
