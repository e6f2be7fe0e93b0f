"""The ways to a server: several of them, users and passwords, TLS, a cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trustme

from nats_fixtures import ConnectionOptions, Node, eventually, node_in
from nats_servers import cluster_in, server_in
from pyoco_server.jetstream.api import call
from pyoco_server.jetstream.connection import Connection, open_connection
from pyoco_server.jetstream.errors import ApiError, BridgeError, Unavailable
from pyoco_server.jetstream.keyvalue import KeyValue
from pyoco_server.jetstream.resources import ensure_consumer, ensure_resources
from pyoco_server.settings import Settings


async def refusal(options: ConnectionOptions) -> str:
    """Why the connection does not come about."""
    async with open_connection(options) as connection:
        with trio.fail_after(60):
            while connection.status.last_error is None:
                await connection.changed()
        assert not connection.status.connected
        return connection.status.last_error or ""


async def works(options: ConnectionOptions) -> Connection:
    async with open_connection(options) as connection:
        await connection.wait_connected(within=60)
        await connection.request("$JS.API.INFO", within=60)
        return connection


async def test_a_server_that_is_away_does_not_matter_while_another_is_there(
    nats_node: Node, tmp_path: Path
) -> None:
    async with node_in(tmp_path / "second") as second:
        away = second.url
    await works(ConnectionOptions(urls=(away, nats_node.url)))


async def test_it_goes_to_the_other_server_when_its_own_is_gone(
    nats_node: Node, tmp_path: Path
) -> None:
    async with server_in(tmp_path / "other") as other:
        options = ConnectionOptions(urls=(other.url, nats_node.url))
        async with open_connection(options) as connection:
            await connection.wait_connected(within=60)
            with trio.fail_after(60):
                while connection.status.server != other.url:  # chosen at random
                    nats_node.kill()
                    await connection.changed()
            await other.process.stop(0.0)
            with trio.fail_after(60):
                while connection.status.server != nats_node.url or not connection.status.connected:
                    await connection.changed()
            await connection.request("$JS.API.INFO", within=60)


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[str]:
    """Address of a server with a user."""
    async with server_in(tmp_path, "authorization { user: u, password: s3cret }") as server:
        yield f"127.0.0.1:{server.port}"


async def test_user_and_password_from_the_url_or_beside_it(guarded: str) -> None:
    url = f"nats://u:s3cret@{guarded}"
    connection = await works(ConnectionOptions(urls=(url,)))
    assert connection.status.server == f"nats://{guarded}", "told without the password"
    await works(ConnectionOptions(urls=(f"nats://{guarded}",), user="u", password="s3cret"))


async def test_a_wrong_or_missing_password_is_told_and_never_shown(guarded: str) -> None:
    for urls in ((f"nats://u:wr0ng@{guarded}",), (f"nats://{guarded}",)):
        reason = await refusal(ConnectionOptions(urls=urls))
        assert "authorization violation" in reason.lower()
        assert "wr0ng" not in reason
    options = ConnectionOptions(urls=(f"nats://u:wr0ng@{guarded}",))
    async with open_connection(options) as connection:
        with pytest.raises(Unavailable) as refused:
            await connection.wait_connected(within=0.5)
        assert guarded in str(refused.value)
        assert "wr0ng" not in str(refused.value)


@pytest.fixture
async def encrypted(tmp_path: Path) -> AsyncIterator[tuple[int, Path]]:
    """Port of a server that wants TLS, and the authority that it is certified by."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    own = authority.issue_cert("127.0.0.1", "localhost")
    own.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    own.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    tls = f"tls {{ cert_file: '{tmp_path}/cert.pem', key_file: '{tmp_path}/key.pem' }}"
    async with server_in(tmp_path, tls) as server:
        yield server.port, tmp_path / "ca.pem"


@pytest.mark.parametrize("scheme", ["tls", "nats"])
async def test_tls_with_an_authority_of_ones_own(encrypted: tuple[int, Path], scheme: str) -> None:
    port, authority = encrypted
    await works(ConnectionOptions(urls=(f"{scheme}://127.0.0.1:{port}",), tls_ca=str(authority)))


async def test_a_certificate_of_an_unknown_authority_is_refused(
    encrypted: tuple[int, Path],
) -> None:
    port, _ = encrypted
    reason = await refusal(ConnectionOptions(urls=(f"tls://127.0.0.1:{port}",)))
    assert "CERTIFICATE_VERIFY_FAILED" in reason


async def test_an_authority_that_cannot_be_read_is_told(encrypted: tuple[int, Path]) -> None:
    port, _ = encrypted
    options = ConnectionOptions(urls=(f"tls://127.0.0.1:{port}",), tls_ca="/no/such/ca.pem")
    assert "No such file" in await refusal(options)


async def test_more_replicas_than_servers_is_refused_with_a_reason(nats_node: Node) -> None:
    async with open_connection(ConnectionOptions(urls=(nats_node.url,))) as connection:
        await connection.wait_connected(within=60)
        with pytest.raises(ApiError, match="replicas"):
            await ensure_resources(connection, Settings(jetstream_replicas=3))


@pytest.mark.slow
async def test_a_cluster_keeps_replicas_and_survives_the_loss_of_a_server(tmp_path: Path) -> None:
    settings = Settings(jetstream_replicas=3)
    # One of them is all that is configured; the others are learned from it.
    async with (
        cluster_in(tmp_path) as servers,
        open_connection(ConnectionOptions(urls=(servers[0].url,))) as connection,
    ):
        await connection.wait_connected(within=60)

        async def made() -> bool:
            try:
                await ensure_resources(connection, settings)
                await ensure_consumer(connection, settings, "hello")
            except BridgeError:
                return False
            return True

        await eventually(made, within=60, what="streams in a cluster that just began")
        info = await call(connection, "STREAM.INFO.KV_pyoco_runs", answer=dict)
        assert info["config"]["num_replicas"] == 3
        bucket = KeyValue(connection, "pyoco_runs")
        await bucket.put("a", b"1")
        async with bucket.watch() as events:
            with trio.fail_after(60):
                assert (await anext(events)).value == b"1"  # type: ignore[union-attr]
            await servers[0].process.stop(0.0)

            async def stored() -> bool:
                try:
                    await bucket.put("b", b"2", within=1.0)
                except BridgeError:
                    return False
                return True

            await eventually(stored, within=60, what="a write without the lost server")
            assert connection.status.server != servers[0].url
            with trio.fail_after(60):
                while getattr(event := await anext(events), "key", "a") != "b":
                    pass
            assert event.value == b"2"  # type: ignore[union-attr]
