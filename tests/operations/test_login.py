"""How settings reach NATS: several servers, users, certificates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from operations.servers import free_port, server_with
from pyoco_server.jetstream.connection import ConnectionOptions, open_connection
from pyoco_server.jetstream.errors import Unavailable
from pyoco_server.settings import Settings

pytestmark = pytest.mark.nats
USERS = 'authorization { users: [ { user: ann, password: "p:w@1" } ] }'


async def reach(within: float = 20, **settings: Any) -> str:
    """Connect with these settings and return which server answered."""
    options = ConnectionOptions.of(Settings(**settings), name="test")
    async with open_connection(options) as connection:
        await connection.wait_connected(within=within)
        assert connection.status.server is not None
        return connection.status.server


async def test_a_user_and_password_are_sent(tmp_path: Path) -> None:
    async with server_with(tmp_path, USERS) as server:
        assert await reach(nats_url=server.url, nats_user="ann", nats_password="p:w@1")
        with pytest.raises(Unavailable, match="Authorization Violation"):
            await reach(within=1, nats_url=server.url, nats_user="ann", nats_password="wrong")


async def test_of_several_servers_one_that_answers_is_taken(tmp_path: Path) -> None:
    async with server_with(tmp_path, "") as server:
        urls = f"nats://127.0.0.1:{free_port()},{server.url}"
        assert await reach(nats_url=urls) == server.url


@contextmanager
def certificates(folder: Path) -> Iterator[dict[str, str]]:
    """Files of an authority, of a server's certificate and of a client's."""
    authority = trustme.CA()
    names = {"ca": authority.cert_pem}
    for who in ("server", "client"):
        issued = authority.issue_cert("127.0.0.1", common_name=who)
        names[f"{who}_cert"] = issued.cert_chain_pems[0]
        names[f"{who}_key"] = issued.private_key_pem
    paths = {name: str(folder / f"{name}.pem") for name in names}
    for name, pem in names.items():
        pem.write_to_path(paths[name])
    yield paths


async def test_tls_with_certificates_on_both_sides(tmp_path: Path) -> None:
    with certificates(tmp_path) as files:
        tls = (
            f'tls {{ cert_file: "{files["server_cert"]}", key_file: "{files["server_key"]}", '
            f'ca_file: "{files["ca"]}", verify: true }}'
        )
        async with server_with(tmp_path / "nats", tls) as server:
            url = f"tls://{server.address}"
            trusting: dict[str, Any] = {"nats_url": url, "nats_tls_ca": files["ca"]}
            ours: dict[str, Any] = {
                "nats_tls_cert": files["client_cert"],
                "nats_tls_key": files["client_key"],
            }
            assert await reach(**trusting, **ours)
            with pytest.raises(Unavailable):
                await reach(within=1, **trusting)  # no certificate of ours
            with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
                await reach(within=1, nats_url=url, **ours)  # not a system's authority


async def test_a_certificate_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.pem")
    with pytest.raises(Unavailable, match=rf"certificate {missing}.*No such file"):
        await reach(within=0.5, nats_tls_ca=missing)


def test_the_password_is_not_shown() -> None:
    shown = repr(Settings(nats_user="ann", nats_password="secret"))
    assert "ann" in shown
    assert "secret" not in shown


def test_a_node_of_this_machine_gets_nothing_of_another_servers_login() -> None:
    settings = Settings(nats_user="ann", nats_password="p", nats_tls_ca="ca.pem", default_tag="x")
    local = settings.for_node("nats://127.0.0.1:1")
    assert local == Settings(nats_url="nats://127.0.0.1:1", default_tag="x")
