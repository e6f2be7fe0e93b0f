"""How settings reach NATS: several servers, users, certificates."""

from __future__ import annotations

import base64
import json
import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nkeys
import pytest
import trio
import trustme

from operations.servers import free_port, server_with
from pyoco_server.jetstream.connection import ConnectionOptions, open_connection
from pyoco_server.jetstream.errors import Unavailable
from pyoco_server.settings import Settings

pytestmark = pytest.mark.nats
USERS = 'authorization { users: [ { user: ann, password: "p:w@1" } ] }'


async def reach(**settings: Any) -> str:
    """Connect with these settings and return which server answered."""
    options = ConnectionOptions.of(Settings(**settings), name="test")
    async with open_connection(options) as connection:
        await connection.wait_connected(within=20)
        assert connection.status.server is not None
        return connection.status.server


async def refusal(**settings: Any) -> str:
    """Try to connect with these settings and return why the first attempt failed."""
    options = ConnectionOptions.of(Settings(**settings), name="test")
    async with open_connection(options) as connection:
        with trio.fail_after(20):
            while connection.status.last_error is None:
                await connection.changed()
        with pytest.raises(Unavailable) as caught:
            await connection.wait_connected(within=0)
        return str(caught.value)


async def test_a_user_and_password_are_sent(tmp_path: Path) -> None:
    async with server_with(tmp_path, USERS) as server:
        assert await reach(nats_url=server.url, nats_user="ann", nats_password="p:w@1")
        why = await refusal(nats_url=server.url, nats_user="ann", nats_password="wrong")
        assert "Authorization Violation" in why


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
            assert await refusal(**trusting)  # no certificate of ours
            why = await refusal(nats_url=url, **ours)
            assert "CERTIFICATE_VERIFY_FAILED" in why  # not a system's authority


async def test_a_certificate_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.pem")
    why = await refusal(nats_tls_ca=missing)
    assert re.search(rf"certificate {missing}.*No such file", why)


def test_the_password_is_not_shown() -> None:
    shown = repr(Settings(nats_user="ann", nats_password="secret"))
    assert "ann" in shown
    assert "secret" not in shown


def test_a_node_of_this_machine_gets_nothing_of_another_servers_login() -> None:
    settings = Settings(nats_user="ann", nats_password="p", nats_tls_ca="ca.pem", default_tag="x")
    local = settings.for_node("nats://127.0.0.1:1")
    assert local == Settings(nats_url="nats://127.0.0.1:1", default_tag="x")


def key_of(kind: int) -> tuple[nkeys.KeyPair, str]:
    """A new pair of keys of NATS, and its public part."""
    pair = nkeys.from_seed(nkeys.encode_seed(os.urandom(32), kind))
    return pair, pair.public_key.decode()


def token(by: tuple[nkeys.KeyPair, str], subject: str, **nats: Any) -> str:
    """The JWT of a user, an account or an operator, by which NATS knows them (its ADR-14)."""

    def part(content: bytes) -> bytes:
        return base64.urlsafe_b64encode(content).rstrip(b"=")

    claims = {"jti": uuid.uuid4().hex, "iat": int(time.time()), "iss": by[1], "sub": subject}
    claims |= {"name": nats["type"], "nats": {"version": 2, **nats}}
    head = {"typ": "JWT", "alg": "ed25519-nkey"}
    signed = b".".join(part(json.dumps(each).encode()) for each in (head, claims))
    return (signed + b"." + part(by[0].sign(signed))).decode()


async def test_a_file_of_credentials_lets_in(tmp_path: Path) -> None:
    operator = key_of(nkeys.PREFIX_BYTE_OPERATOR)
    account = key_of(nkeys.PREFIX_BYTE_ACCOUNT)
    user = key_of(nkeys.PREFIX_BYTE_USER)
    limits = dict.fromkeys(("subs", "conn", "leaf", "imports", "exports", "data", "payload"), -1)
    config = (
        f"operator: {token(operator, operator[1], type='operator')}\n"
        "resolver: MEMORY\n"
        f"resolver_preload: {{ {account[1]}: "
        f"{token(operator, account[1], type='account', limits=limits)} }}"
    )
    login = token(account, user[1], type="user", subs=-1, data=-1, payload=-1)
    seed = user[0].seed.decode()
    file = tmp_path / "user.creds"
    file.write_text(
        f"-----BEGIN NATS USER JWT-----\n{login}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
    async with server_with(tmp_path, config) as server:
        assert await reach(nats_url=server.url, nats_credentials=str(file))
        assert "Authorization Violation" in await refusal(nats_url=server.url)
