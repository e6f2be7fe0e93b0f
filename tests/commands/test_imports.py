"""A command starts fast because it imports what it needs itself, and nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest

LOOK = """\
import sys
from pyoco_cli.{program} import main
assert main(sys.argv[1:]) == {code}
print("imported", *sys.modules)
"""
OWN_FLOORS = {"pyoco_server.backend", "pyoco_server.gateway", "pyoco_server.worker", "pyoco_http"}
SERVER = {"nats", "asyncio", "quart", "hypercorn", "trio", *OWN_FLOORS}
CLIENT = {"httpx", "httpcore", "ssl", "yaml", "build"}
DRAWING = {"rich", "pygments", "click", "pydantic"}
NOBODY = "http://127.0.0.1:1"


def imported(program: str, *argv: str, code: int = 0) -> set[str]:
    """The modules that a process has after a command."""
    look = LOOK.format(program=program, code=code)
    done = subprocess.run(
        [sys.executable, "-c", look, *argv],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_the_help_of_the_client_neither_calls_nor_draws() -> None:
    assert imported("client", "--help") & (SERVER | CLIENT | DRAWING) == set()


@pytest.mark.parametrize("command", ["list", "metrics"])
def test_a_command_of_the_client_imports_no_other_one_nor_what_httpx_can_do_without(
    command: str,
) -> None:
    found = imported("client", "--server", NOBODY, command, code=1)
    assert "httpx" in found
    assert found & (SERVER | DRAWING | {"h2", "anyio", "httpx._main"}) == set()
    assert {name for name in found if name.startswith("pyoco_cli.client.")} <= {
        f"pyoco_cli.client.{name}"
        for name in ("app", "connection", "profile", "listing", "runs", "metrics")
    }


def test_the_help_of_the_admin_waits_for_no_nats() -> None:
    assert imported("admin", "--help") & (SERVER | CLIENT | DRAWING) == set()


def test_a_command_of_the_server_imports_no_web_server_of_another_one() -> None:
    found = imported("server", "scenario", "list", "--help")
    assert found & {"quart", "hypercorn", "pyoco_http", "nats", "pyoco_cli.server.up"} == set()


def test_what_was_hidden_from_a_library_is_there_for_all_others() -> None:
    look = """
import sys
from pyoco_cli.common.commands import without
import colorsys
with without("zipapp", "colorsys"):
    import colorsys
    try:
        import zipapp
    except ImportError:
        pass
    else:
        raise AssertionError("not hidden")
import zipapp
"""
    subprocess.run([sys.executable, "-c", look], check=True, timeout=120)
