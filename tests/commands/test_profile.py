"""Which gateway a command talks to: options, environment and profiles, told by what it cannot reach."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import Mock

import pytest
import typer

from pyoco_cli.client import main
from pyoco_cli.client.connection import GatewayAddress
from pyoco_cli.client.profile import with_profile
from pyoco_cli.common.errors import CliError

FILE = """\
[default]
server = "http://127.0.0.1:1"

[prod]
server = "http://127.0.0.1:2"
api_key = "prod-key"
api_key_header = "X-Prod"
"""


@pytest.fixture(autouse=True)
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("PYOCO_SERVER_URL", "PYOCO_API_KEY", "PYOCO_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "pyoco" / "client.toml"
    path.parent.mkdir()
    path.write_text(FILE)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("argv", "environment", "server"),
    [
        ([], {}, "http://127.0.0.1:1"),
        (["--profile", "prod"], {}, "http://127.0.0.1:2"),
        ([], {"PYOCO_PROFILE": "prod"}, "http://127.0.0.1:2"),
        ([], {"PYOCO_SERVER_URL": "http://127.0.0.1:3"}, "http://127.0.0.1:3"),
        (
            [],
            {"PYOCO_SERVER_URL": "http://127.0.0.1:3", "PYOCO_PROFILE": "prod"},
            "http://127.0.0.1:3",
        ),
        (
            ["--profile", "prod"],
            {"PYOCO_SERVER_URL": "http://127.0.0.1:3"},
            "http://127.0.0.1:2",
        ),
        (
            ["--server", "http://127.0.0.1:4", "--profile", "prod"],
            {"PYOCO_SERVER_URL": "http://127.0.0.1:3"},
            "http://127.0.0.1:4",
        ),
    ],
)
def test_what_ranks_first(
    argv: list[str],
    environment: dict[str, str],
    server: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main([*argv, "list"]) == 1
    assert f"- reason: {server}: " in capsys.readouterr().err


def given(server: str = "http://127.0.0.1:8000", key: str | None = None) -> GatewayAddress:
    return GatewayAddress(server, key, "X-API-Key")


def sources(*options: str) -> dict[str, str]:
    return dict.fromkeys(options, "COMMANDLINE")


def test_a_key_goes_to_the_server_of_its_profile_only() -> None:
    prod = with_profile(given(), "prod", sources("profile"))
    assert prod == GatewayAddress("http://127.0.0.1:2", "prod-key", "X-Prod")
    other = with_profile(given("http://127.0.0.1:9"), "prod", sources("profile", "server"))
    assert other == given("http://127.0.0.1:9")
    own_key = with_profile(given(key="mine"), "prod", sources("profile", "api_key"))
    assert own_key == GatewayAddress("http://127.0.0.1:2", "mine", "X-Prod")


@pytest.mark.parametrize(
    ("before", "key"),
    [(["--profile", "prod"], None), (["--profile", "prod", "--api-key", "mine"], "mine")],
)
def test_a_server_that_check_names_is_sent_no_key_of_a_profile(
    before: list[str], key: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[GatewayAddress] = []

    @contextmanager
    def gateway(context: typer.Context) -> Iterator[Mock]:
        asked.append(context.obj)
        yield Mock(check_flow=Mock(return_value={}))

    monkeypatch.setattr("pyoco_cli.client.check.gateway", gateway)
    flow = tmp_path / "flow.yaml"
    flow.write_text("flow: {graph: a}")
    assert main([*before, "check", str(flow), "--server", "http://127.0.0.1:9"]) == 0
    assert asked == [given("http://127.0.0.1:9", key)]


def test_a_key_that_others_may_read_is_told(
    profiles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profiles.chmod(0o644)
    with_profile(given(), "prod", sources("profile"))
    assert f"chmod 600 {profiles}" in capsys.readouterr().err


def test_without_a_file_nothing_changes(profiles: Path) -> None:
    profiles.unlink()
    assert with_profile(given(key="k"), None, sources()) == given(key="k")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("server = 1", "server is no profile"),
        ("[default]\nport = 1", "profile default has port"),
        ("[default]\nserver = 1", "profile default has server"),
        ("[default", "cannot be read"),
    ],
)
def test_a_file_that_says_nothing_is_refused(profiles: Path, text: str, reason: str) -> None:
    profiles.write_text(text)
    with pytest.raises(CliError, match=reason):
        with_profile(given(), None, sources())


def test_a_profile_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(CliError, match="there are: default, prod"):
        with_profile(given(), "staging", sources("profile"))
