"""The connection: comes back from everything, and never makes its callers wait for good."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from nats_fixtures import (
    Connection,
    ConnectionOptions,
    Node,
    connected,
    eventually,
    killed,
    node_in,
    paused,
)
from nats_servers import open_scripted_server, server_in
from pyoco_server.jetstream import session as session_module
from pyoco_server.jetstream.connection import open_connection
from pyoco_server.jetstream.errors import Malformed, PayloadTooLarge, Unanswered, Unavailable
from tcp_proxy import Direction, TcpProxy, open_proxy


@pytest.fixture
async def proxy(nats_node: Node) -> AsyncIterator[TcpProxy]:
    async with open_proxy(nats_node.port) as proxy:
        yield proxy


@pytest.fixture
async def through(proxy: TcpProxy) -> AsyncIterator[Connection]:
    """A connection by way of the proxy."""
    async with open_connection(ConnectionOptions(urls=(proxy.nats_url,))) as connection:
        await connection.wait_connected(within=60)
        yield connection


async def answers(connection: Connection, within: float = 20.0) -> None:
    """Whether JetStream answers; raises if not."""
    await connection.request("$JS.API.INFO", within=within)


async def next_epoch(connection: Connection, within: float) -> None:
    epoch = connection.epoch
    with trio.fail_after(within):
        while connection.epoch == epoch or not connection.status.connected:
            await connection.changed()


async def test_the_block_is_entered_before_nats_is_there(tmp_path: Path) -> None:
    async with node_in(tmp_path) as node:
        port = node.port
    async with open_connection(ConnectionOptions(urls=(f"nats://127.0.0.1:{port}",))) as connection:
        with trio.fail_after(60):
            while connection.status.last_error is None:
                await connection.changed()
        with pytest.raises(Unavailable, match=rf"within 0\.2 s at \S+:{port}: .*Refused"):
            await connection.wait_connected(within=0.2)
        with pytest.raises(Unavailable, match=r"not connected: .*Refused"):
            await answers(connection)
        async with node_in(tmp_path, port=port):
            await connection.wait_connected(within=60)
            await answers(connection)


async def test_a_connection_that_cannot_be_taken_over_is_a_failed_attempt(
    nats_node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = session_module.Session.begin
    met: list[str] = []

    def fail_once(session: session_module.Session) -> None:
        if not met:
            met.append("an end")
            raise AssertionError("nats-py is not connected")
        begin(session)

    monkeypatch.setattr(session_module.Session, "begin", fail_once)
    async with connected(nats_node) as connection:
        await answers(connection)
        assert met
        assert connection.epoch == 1


async def test_status_tells_how_it_is(nats_node: Node) -> None:
    async with connected(nats_node) as connection:
        before = connection.status
        assert (before.connected, before.epoch, before.reconnects) == (True, 1, 0)
        assert before.server == nats_node.url
        assert before.max_payload == 1024 * 1024
        await killed(nats_node, connection)
        after = connection.status
        assert (after.connected, after.epoch, after.reconnects) == (True, 2, 1)
        assert after.since > before.since
        await answers(connection)


async def test_a_cut_connection_is_a_short_delay(through: Connection, proxy: TcpProxy) -> None:
    for _ in range(5):
        with trio.fail_after(60):
            proxy.cut()
            await next_epoch(through, 60)
            await answers(through)
    assert through.status.reconnects == 5


async def test_a_request_in_flight_when_the_connection_breaks_fails_at_once(
    through: Connection, proxy: TcpProxy
) -> None:
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(Unanswered, match="the connection broke"), trio.fail_after(60):
                async with through.subscribe("nobody.answers"):
                    await through.request("nobody.answers", within=60)

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked(0.05)
        proxy.cut()


async def test_a_stopped_server_makes_requests_time_out_and_is_taken_back(
    nats_node: Node,
) -> None:
    async with connected(nats_node) as connection:
        with paused(nats_node):
            began = trio.current_time()
            with pytest.raises(Unanswered, match=r"no answer within 0\.3 s"):
                await answers(connection, within=0.3)
            assert trio.current_time() - began < 20
        await answers(connection)
        assert connection.epoch == 1, "no reason to connect anew"


async def test_a_caller_is_cancelled_at_once_whatever_the_server_does(nats_node: Node) -> None:
    async with connected(nats_node) as connection:
        with paused(nats_node):
            began = trio.current_time()
            with trio.move_on_after(0.2) as scope:
                await answers(connection, within=60)
            assert scope.cancelled_caught
            # The outbox takes 16 MiB, sockets and nats-py some more; then there is no room.
            with trio.move_on_after(2) as scope:
                while True:
                    await connection.publish("flood", bytes(1_000_000))
            assert scope.cancelled_caught
            with trio.move_on_after(0.2) as scope:
                await connection.publish("flood", bytes(1_000_000))
            assert scope.cancelled_caught
            with pytest.raises(Unavailable, match=r"takes no more: .* not sent in 0\.1 s"):
                await answers(connection, within=0.1)
            assert trio.current_time() - began < 40
        await answers(connection, within=20)


async def flood(connection: Connection, seconds: float) -> None:
    """Publish as much as there is room for."""
    with trio.move_on_after(seconds):
        while True:
            await connection.publish("flood", bytes(1_000_000))


@pytest.mark.parametrize("how", ["leave", "cancel"])
async def test_leaving_is_quick_although_the_server_reads_nothing(
    nats_node: Node, how: str
) -> None:
    with ExitStack() as stack, trio.CancelScope() as scope:
        async with connected(nats_node) as connection:
            stack.enter_context(paused(nats_node))
            await flood(connection, 0.5)
            began = trio.current_time()
            if how == "cancel":
                scope.cancel()
    assert trio.current_time() - began < 20


async def test_a_half_open_connection_is_noticed_and_replaced(
    through: Connection, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "_PING_SECONDS", 0.1)
    proxy.cut()
    await next_epoch(through, 60)  # with the short pings
    before = through.epoch
    with proxy.held():
        with pytest.raises(Unanswered):
            await answers(through, within=5)
        assert not through.status.connected or through.epoch == before
        # The next one need not be that quick, on a machine that is busy.
        monkeypatch.setattr(session_module, "_PING_SECONDS", 10.0)
    await through.wait_connected(within=60)
    await answers(through)
    assert through.epoch > before


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_one_way_connection_is_noticed_and_replaced(
    through: Connection,
    proxy: TcpProxy,
    monkeypatch: pytest.MonkeyPatch,
    direction: Direction,
) -> None:
    monkeypatch.setattr(session_module, "_PING_SECONDS", 0.1)
    proxy.cut()
    await next_epoch(through, 60)
    with proxy.held(direction), trio.fail_after(60):
        while through.status.connected:
            await through.changed()
        monkeypatch.setattr(session_module, "_PING_SECONDS", 10.0)
    await through.wait_connected(within=60)
    await answers(through)


async def test_a_slow_connection_carries_many_requests_at_once(
    through: Connection, proxy: TcpProxy
) -> None:
    proxy.delay = 0.1
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(answers, through)
    assert trio.current_time() - began < 20, "one after the other they take 40 s"


async def test_a_server_that_is_away_is_tried_again_without_hurry(
    through: Connection, proxy: TcpProxy
) -> None:
    before, began = proxy.accepted, trio.current_time()

    async def tried_twice() -> bool:
        return proxy.accepted - before >= 2

    with proxy.down():
        await trio.sleep(1.5)
        await eventually(tried_twice)
        assert not through.status.connected
        assert proxy.accepted - before <= 10 * (trio.current_time() - began)
    await through.wait_connected(within=60)
    await answers(through)


@pytest.mark.parametrize(
    "line",
    [
        b"-ERR 'Stale Connection'\r\n",
        b"-ERR 'Maximum Payload Violation'\r\n",
        b"-ERR 'Something New'\r\n",
        b"PONG\r\n",  # nobody asked for it
        b"MSG surprise 99 5\r\nhello\r\n",
        b"MSG broken\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        bytes(range(256)),
    ],
)
async def test_whatever_the_server_says_requests_are_answered_again(
    line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "_PING_SECONDS", 0.2)
    async with open_scripted_server(line) as server:
        options = ConnectionOptions(urls=(server.url,))
        async with open_connection(options) as connection:
            await connection.wait_connected(within=60)
            await connection.publish("break")
            if b"PONG" in line or b"surprise" in line:
                await connection.publish("more")
                with pytest.raises(Unanswered):
                    await answers(connection, within=0.2)
                assert connection.epoch == 1, "nothing that hurts"
            else:
                await next_epoch(connection, 60)
                assert server.greeted >= 2


async def test_a_permission_that_is_missing_is_told_and_no_end(tmp_path: Path) -> None:
    users = (
        "authorization { users = [{ user: a, password: b,"
        ' permissions { publish { deny: "secret" } } }] }'
    )
    async with server_in(tmp_path, users) as server:
        options = ConnectionOptions(urls=(server.url,), user="a", password="b")
        async with open_connection(options) as connection:
            await connection.wait_connected(within=60)
            with capture_logs() as logs:

                async def told() -> bool:
                    return any("permissions violation" in str(each).lower() for each in logs)

                await connection.publish("secret")
                await eventually(told, what="the violation is told")
            with pytest.raises(Unavailable):
                await connection.request("nobody.there", within=5)
            assert connection.epoch == 1


async def test_what_would_break_the_protocol_is_refused(nats_node: Node) -> None:
    async with connected(nats_node) as connection:
        for subject in ("", "a b", "a\r\nPUB x 0\r\n", "tab\there"):
            with pytest.raises(Malformed):
                await connection.publish(subject)
        with pytest.raises(Malformed):
            await connection.publish("a", headers={"X": "1\r\nY: 2"})
        with pytest.raises(Malformed):
            connection.open_feed("a..b", lambda _: None, lambda: None)
        await answers(connection)
        assert connection.epoch == 1


async def test_a_message_at_the_servers_limit_passes_and_one_above_is_refused(
    nats_node: Node,
) -> None:
    async with connected(nats_node) as connection, connection.subscribe("big") as messages:
        limit = connection.status.max_payload
        assert limit is not None
        await connection.publish("big", bytes(limit))
        with trio.fail_after(60):
            _, payload = await messages.receive()
        assert len(payload) == limit
        with pytest.raises(PayloadTooLarge, match=f"at most {limit}"):
            await connection.publish("big", bytes(limit + 1))
        with pytest.raises(PayloadTooLarge):
            await connection.publish("big", bytes(limit), headers={"A": "b"})
        exact = len(b"NATS/1.0\r\nA: b\r\n\r\n")
        await connection.publish("big", bytes(limit - exact), headers={"A": "b"})
        with trio.fail_after(60):
            await messages.receive()
        assert connection.epoch == 1


async def test_a_request_that_nobody_answers_is_unavailable_at_once(nats_node: Node) -> None:
    async with connected(nats_node) as connection:
        with trio.fail_after(60), pytest.raises(Unavailable, match=r"nobody answers at no\.one"):
            await connection.request("no.one", within=60)


async def test_a_subscription_goes_on_with_the_next_connection(
    through: Connection, proxy: TcpProxy
) -> None:
    async with through.subscribe("news.*") as messages:
        await through.publish("news.a", b"1")
        with trio.fail_after(60):
            assert await messages.receive() == ("news.a", b"1")
            proxy.cut()
            await next_epoch(through, 60)
            await through.publish("news.b", b"2")
            assert await messages.receive() == ("news.b", b"2")


async def test_a_reader_that_does_not_read_loses_its_own_messages_only(nats_node: Node) -> None:
    async with (
        connected(nats_node) as connection,
        connection.subscribe("slow", capacity=10) as slow,
        connection.subscribe("quick", capacity=1000) as quick,
    ):
        for number in range(1000):
            await connection.publish("slow", str(number).encode())
        await connection.publish("quick", b"still here")
        with trio.fail_after(60):
            assert await quick.receive() == ("quick", b"still here")
            assert await slow.receive() == ("slow", b"0")
        assert connection.epoch == 1


async def test_a_courtesy_is_dropped_while_nats_is_away(
    through: Connection, proxy: TcpProxy
) -> None:
    async with through.subscribe("thanks") as messages:
        with proxy.down():
            while through.status.connected:
                await through.changed()
            through.publish_soon("thanks", b"lost")
        await through.wait_connected(within=60)
        through.publish_soon("thanks", b"kept")
        with trio.fail_after(60):
            assert await messages.receive() == ("thanks", b"kept")


async def test_an_error_of_the_block_comes_out_as_it_is(nats_node: Node) -> None:
    with pytest.raises(ZeroDivisionError):
        async with connected(nats_node):
            _ = 1 / 0
