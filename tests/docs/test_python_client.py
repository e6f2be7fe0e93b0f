"""The page about the Python client lists its methods, and its examples say what they print."""

from __future__ import annotations

import contextlib
import inspect
import io
import re
from pathlib import Path
from typing import Any

import pytest

from contract.client_calls import EXAMPLES
from docs.pages import ROOT
from e2e.programs import open_stage
from pyoco_server.client import PyocoHttpClient

PAGE = (ROOT / "docs/reference/python_client.md").read_text()
ROW = re.compile(r"^\| `(\w+)\(([^)]*)\)` \| (.*?) \| ", re.MULTILINE)


def test_each_method_is_listed_with_its_arguments_and_routes() -> None:
    routes: dict[str, set[str]] = {}
    for example in EXAMPLES:
        routes.setdefault(example.method, set()).add(" ".join(example.route))
    listed = {
        name: (args, set(re.findall("`(.*?)`", cell))) for name, args, cell in ROW.findall(PAGE)
    }
    assert set(listed) == set(routes)
    for name, (args, cell) in listed.items():
        parameters = inspect.signature(getattr(PyocoHttpClient, name)).parameters
        assert args.split(", ") == ([*parameters][1:] or [""]), name
        assert cell == routes[name], name


@pytest.mark.slow
def test_the_examples(tmp_path: Path) -> None:
    examples = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(examples) == 3
    names: dict[str, Any] = {}
    with open_stage(tmp_path) as stage:
        stage.nats()
        stage.gateway()
        stage.worker("--slots", "1")
        for example in examples:
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                exec(example.replace("http://127.0.0.1:8000", stage.url), names)
            assert said.getvalue().splitlines() == re.findall(
                r"print\(.*  # (.*)$", example, re.MULTILINE
            )
