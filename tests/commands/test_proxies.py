"""A proxy of the environment that cannot be used is told by its variable, whoever asks a gateway."""

from __future__ import annotations

import pytest
import trio

from commands.calling import caught
from pyoco_cli.client import main
from pyoco_server.operations.doctor.gateway import check_gateway
from pyoco_server.operations.status import gateway_status

SERVER = "http://127.0.0.1:1"


@pytest.fixture(
    params=[
        ("ALL_PROXY", "socks5://ann:secret@127.0.0.1:1"),
        ("all_proxy", "socks://ann:secret@127.0.0.1:1"),
        ("HTTP_PROXY", "http://ann:secret@127.0.0.1:x"),
    ],
    ids=lambda param: str(param[0]),
)
def variable(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        for each in (name, name.upper()):
            monkeypatch.delenv(each, raising=False)
    name, proxy = request.param
    monkeypatch.setenv(name, proxy)
    return str(name)


def test_a_command_names_it(variable: str) -> None:
    said = caught(lambda: main(["--server", SERVER, "list"]))
    assert (said.code, said.out) == (1, "")
    assert f"- reason: {variable}: " in said.err
    assert "secret" not in said.err


def test_status_and_doctor_name_it(variable: str) -> None:
    state = trio.run(gateway_status, SERVER)
    assert state.state == "unreachable"
    assert state.reasons[0].startswith(f"{variable}: ")
    [found] = trio.run(check_gateway, SERVER, {})
    assert found.check == "gateway.unreachable"
    assert f": {variable}: " in found.what
    assert "secret" not in found.what + state.reasons[0]
