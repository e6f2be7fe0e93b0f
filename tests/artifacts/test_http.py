"""Artifacts over HTTP: whole and in parts, for whom they are, and under whatever name."""

from __future__ import annotations

import hashlib
import io
import os
import uuid
from collections.abc import AsyncIterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

import httpx
import msgspec
import pytest
import trio
from msgspec.structs import replace

from http_api.gateway import gateway
from http_api.keyed import KEYED, as_key, key_for
from http_api.raw import ask
from http_api.seeding import put_runs, snapshot
from pyoco_server.backend import Backend
from pyoco_server.client import AsyncPyocoHttpClient
from pyoco_server.jetstream.objectinfo import CHUNK_BYTES
from tcp_proxy import open_proxy
from wheels.making import file_name, wheel_bytes

pytestmark = pytest.mark.nats

DATA = os.urandom(3 * CHUNK_BYTES + 77)
SIZE = len(DATA)
NAME = "data/räw (1).bin"


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data
    await trio.lowlevel.checkpoint()


async def run_with(
    backend: Backend,
    files: dict[str, bytes],
    wrong: Mapping[str, str] = MappingProxyType({}),
    **changes: object,
) -> str:
    """A run that has ended and saved these files; its snapshot has digests of some that are ``wrong``."""
    run_id = str(uuid.uuid4())
    kept = [await backend.artifacts.keep(run_id, 1, name, pieces(files[name])) for name in files]
    told = [replace(each, sha256_hex=wrong.get(each.name, each.sha256_hex)) for each in kept]
    listed = [msgspec.to_builtins(each) for each in told]
    await put_runs(backend, [snapshot(run_id, attempt=1, artifacts=listed, **changes)])
    return run_id


def at(run_id: str, name: str) -> str:
    return f"/runs/{run_id}/artifacts/{quote(name)}"


async def test_an_artifact_is_listed_and_comes_back(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        run_id = await run_with(backend, {NAME: DATA, "empty": b""})
        digest = hashlib.sha256(DATA).hexdigest()
        listing = (await client.get(f"/runs/{run_id}/artifacts")).json()
        first, second = listing["artifacts"]
        assert (first["name"], first["size_bytes"], first["sha256_hex"]) == (NAME, SIZE, digest)
        assert listing["artifacts_refused"] == []
        assert (await client.get(f"/runs/{run_id}")).json()["artifacts"] == [first, second]
        whole = await client.get(at(run_id, NAME))
        assert (whole.status_code, whole.content) == (200, DATA)
        headers = {
            "accept-ranges": "bytes",
            "content-length": str(SIZE),
            "content-type": "application/octet-stream",
            "content-disposition": "attachment; filename*=UTF-8''r%C3%A4w%20%281%29.bin",
            "etag": f'"{digest}"',
            "x-content-type-options": "nosniff",
        }
        assert headers.items() <= dict(whole.headers).items()
        empty = await client.get(at(run_id, "empty"))
        assert (empty.status_code, empty.content) == (200, b"")
        # What a HEAD tells is what a GET would, and a range is for the latter only.
        looked = await client.head(at(run_id, NAME), headers={"Range": "bytes=0-0"})
        assert (looked.status_code, looked.content) == (200, b"")
        assert headers.items() <= dict(looked.headers).items()


PARTS = [
    ("bytes=0-0", 0, 1),
    ("bytes=5-9", 5, 10),
    (f"bytes={CHUNK_BYTES - 1}-{CHUNK_BYTES}", CHUNK_BYTES - 1, CHUNK_BYTES + 1),
    (f"bytes={2 * CHUNK_BYTES}-", 2 * CHUNK_BYTES, SIZE),
    (f"bytes=7-{SIZE + 1000}", 7, SIZE),
    ("bytes=-5", SIZE - 5, SIZE),
    (f"bytes=-{SIZE + 1}", 0, SIZE),
]
NO_PARTS = [f"bytes={SIZE}-", f"bytes={SIZE + 5}-{SIZE + 9}", "bytes=-0"]
IGNORED = ["bytes=9-5", "bytes=-", "bytes=0-1,3-4", "lines=0-1", "bytes=x-"]


async def check_parts(client: httpx.AsyncClient, path: str, data: bytes) -> None:
    async def part(text: str) -> httpx.Response:
        return await client.get(path, headers={"Range": text})

    for text, start, stop in PARTS:
        got = await part(text)
        assert (got.status_code, got.content) == (206, data[start:stop]), text
        assert got.headers["content-range"] == f"bytes {start}-{stop - 1}/{SIZE}"
        assert got.headers["content-length"] == str(stop - start)
        assert got.headers["etag"] == f'"{hashlib.sha256(data).hexdigest()}"'
    for text in NO_PARTS:
        got = await part(text)
        assert (got.status_code, got.json()["detail"]) == (416, "range not satisfiable"), text
        assert got.headers["content-range"] == f"bytes */{SIZE}"
    for text in IGNORED:
        got = await part(text)
        assert (got.status_code, got.content) == (200, data), text
        assert "content-range" not in got.headers


async def test_a_part_of_an_artifact(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        run_id = await run_with(backend, {NAME: DATA, "empty": b""})
        await check_parts(client, at(run_id, NAME), DATA)
        nothing = await client.get(at(run_id, "empty"), headers={"Range": "bytes=0-"})
        assert (nothing.status_code, nothing.headers["content-range"]) == (416, "bytes */0")


def wheel_of(size: int) -> bytes:
    """A wheel of exactly that many bytes."""
    rest = size - len(wheel_bytes(files={"data.bin": b""}, compress=False))
    for filling in range(rest, 0, -1):
        data = wheel_bytes(files={"data.bin": os.urandom(filling)}, compress=False)
        if len(data) == size:
            return data
    raise AssertionError(f"no wheel has {size} bytes")


async def test_a_part_of_a_wheel(tmp_path: Path) -> None:
    data = wheel_of(SIZE)
    async with gateway(tmp_path, worker=False) as (client, _):
        uploaded = await client.post("/wheels", files={"wheel": (file_name(), data)})
        assert uploaded.status_code == 200, uploaded.text
        await check_parts(client, f"/wheels/{file_name()}", data)


async def test_whoever_may_not_see_the_run_sees_nothing_of_its_artifacts(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False, **KEYED) as (client, backend):
        own, _ = await key_for(backend, "a")
        stranger, _ = await key_for(backend, "b")
        run_id = await run_with(backend, {"a.txt": b"a"}, tenant_id="a")
        missing = str(uuid.uuid4())
        for below in ("", "/a.txt", "/b.txt"):
            path = f"/runs/{{}}/artifacts{below}"
            hidden, none = [
                await client.get(path.format(which), headers=as_key(stranger))
                for which in (run_id, missing)
            ]
            assert hidden.status_code == none.status_code == 404
            assert hidden.text.replace(run_id, missing) == none.text
        assert (await client.get(at(run_id, "a.txt"), headers=as_key(own))).content == b"a"
        gone = await client.get(at(run_id, "b.txt"), headers=as_key(own))
        assert (gone.status_code, gone.json()["detail"]) == (404, "artifact not found")


ODD = [
    "über/\u202egnp.\U0001f4be",
    "e\u0301",
    "per%2Fcent",
    "a?b#c&d=e;f",
    "\"quoted\" 'name'",
    "spaces  and\u00a0more ",
    "...",
    "..a/b..",
]
"""Names that are kept as they are."""

HOSTILE = [
    b"..",
    b"../a.txt",
    b"%2e%2e/a.txt",
    b"..%2fa.txt",
    b"%2fetc%2fpasswd",
    b"/etc/passwd",
    b"/a.txt",
    b"./a.txt",
    b"x/../a.txt",
    b"a.txt/",
    b"A.TXT",
    b"%ff%fe",
    b"%c0%ae%c0%ae/a.txt",
    b"a.txt%00",
    b"a.txt%0d%0aX-Made-Up: 1",
    b"%E9",
    b"..%5ca.txt",
    b"%25",
    b"%",
    b"*",
    b"%3E",
    b"n" * 5000,
]
"""Requests for what no run has saved, as they are sent."""


async def test_a_name_is_what_it_says_and_leads_nowhere_else(tmp_path: Path) -> None:
    async with gateway(tmp_path, worker=False) as (client, backend):
        run_id = await run_with(
            backend, {"a.txt": b"a", "é": b"composed", **{name: name.encode() for name in ODD}}
        )
        other = await run_with(backend, {"theirs.txt": b"theirs"})
        for name in ODD:
            got = await client.get(at(run_id, name))
            assert (got.status_code, got.content) == (200, name.encode()), name
            assert len(got.headers.get_list("content-disposition")) == 1
        wanted = [*HOSTILE, f"../../{other}/artifacts/theirs.txt".encode(), b"theirs.txt"]
        for sent in wanted:
            line = b"GET /runs/" + run_id.encode() + b"/artifacts/" + sent + b" HTTP/1.1\r\n"
            answer = await ask(client, line + b"Host: localhost\r\n\r\n")
            assert answer.status in {400, 404}, (sent, answer)
            assert b"root:" not in answer.body
            assert "x-made-up" not in answer.headers
            assert "content-disposition" not in answer.headers
        assert (await client.get(at(run_id, "a.txt"))).content == b"a"


async def test_a_download_that_breaks_off_goes_on_where_it_broke(tmp_path: Path) -> None:
    data = os.urandom(40 * CHUNK_BYTES)
    wheel = wheel_bytes(files={"data.bin": data}, compress=False)
    async with gateway(tmp_path, worker=False) as (http, backend):
        run_id = await run_with(backend, {NAME: data})
        await http.post("/wheels", files={"wheel": (file_name(), wheel)})
        asked: list[str | None] = []

        async def note(request: httpx.Request) -> None:
            await trio.lowlevel.checkpoint()
            asked.append(request.headers.get("range"))

        assert http.base_url.port is not None
        async with open_proxy(http.base_url.port) as proxy:

            class Breaking(io.BytesIO):
                """Cuts the connection once, when some has come."""

                def write(self, piece: object) -> int:
                    if len(asked) == 1 and self.tell() > CHUNK_BYTES:
                        trio.from_thread.run_sync(proxy.cut)
                    return super().write(piece)  # type: ignore[arg-type]

            url = f"http://127.0.0.1:{proxy.port}"
            async with AsyncPyocoHttpClient(url) as client:
                client._client.event_hooks = {"request": [note]}
                for fetch, whole in (
                    (partial(client.download_artifact, run_id, NAME), data),
                    (partial(client.download_wheel, file_name()), wheel),
                ):
                    to = Breaking()
                    assert await fetch(to) == hashlib.sha256(whole).hexdigest()
                    assert to.getvalue() == whole
                    first, second = asked
                    assert first is None
                    assert second is not None
                    assert int(second.removeprefix("bytes=").removesuffix("-")) > CHUNK_BYTES
                    asked.clear()
