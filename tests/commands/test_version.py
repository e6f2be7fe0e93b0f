"""All programs say which version they are of."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from pyoco_cli import admin, client, server, worker


@pytest.mark.parametrize("program", [admin, client, server, worker])
def test_the_version(program: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--version"]) == 0  # type: ignore[attr-defined]
    assert capsys.readouterr().out == f"pyoco-server {version('pyoco-server')}\n"
