"""The key ring over a real bucket: who is let in, what it costs, and how soon a key ends."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from backend.stage import running
from http_api.keyed import KEYED, bucket_of, key_for, store
from nats_fixtures import paused
from pyoco_server.backend import Backend
from pyoco_server.gateway import key_ring
from pyoco_server.gateway.key_ring import InvalidApiKey, KeyRing, KeysUnavailable, TooManyChecks
from pyoco_server.jetstream.errors import KeyNotFound
from pyoco_server.jetstream.keyvalue import CaughtUp, Deleted, Entry, KeyValue, Reset, WatchEvent
from pyoco_server.jetstream.publish import publish_acked
from pyoco_server.kernel import TreeNode
from pyoco_server.model.api_key import (
    ALL_ROLES,
    ApiKeyRecord,
    Principal,
    Role,
    bucket_key,
    matches,
    new_key,
    parse_key,
)
from pyoco_server.model.json_text import encode_json

UNKNOWN = f"pyoco_{'0' * 24}.{'s' * 43}"


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[Backend]:
    async with running(tmp_path, worker=False, auth_pepper="pepper", **KEYED) as backend:
        yield backend


async def refused(backend: Backend, key: str) -> None:
    with pytest.raises(InvalidApiKey):
        await backend.authenticate(key)


async def ends(backend: Backend, key: str) -> None:
    with trio.fail_after(60):
        while True:
            try:
                await backend.authenticate(key)
            except InvalidApiKey:
                return
            await trio.sleep(0.01)


async def test_a_key_is_good_from_the_moment_it_is_stored(backend: Backend) -> None:
    for number in range(3):
        key, record = await key_for(backend, f"tenant-{number}", roles=[Role.SUBMIT])
        standing = await backend.authenticate(key)
        expected = Principal(f"tenant-{number}", record.key_id, frozenset([Role.SUBMIT]))
        assert standing.principal == expected


async def test_a_record_without_roles_has_all_of_them(backend: Backend) -> None:
    key, record = await key_for(backend)
    await store(backend, replace(record, roles=None))
    assert (await backend.authenticate(key)).principal.roles == ALL_ROLES


async def test_roles_that_are_taken_away_are_gone(backend: Backend) -> None:
    key, record = await key_for(backend)
    standing = await backend.authenticate(key)
    await store(backend, replace(record, roles=["submit", "a-role-of-later"]))
    with trio.fail_after(60):
        await standing.ended.wait()
    assert (await backend.authenticate(key)).principal.roles == {Role.SUBMIT}


@pytest.mark.parametrize("how", ["revoked", "deleted", "purged", "unreadable", "expired"])
async def test_a_key_ends_and_with_it_the_standing_of_its_holders(
    backend: Backend, how: str
) -> None:
    key, record = await key_for(backend)
    standing = await backend.authenticate(key)
    assert not standing.ended.is_set()
    bucket, name = bucket_of(backend), bucket_key(record.key_id)
    match how:
        case "revoked":
            await store(backend, replace(record, revoked_at=time.time()))
        case "deleted":
            await bucket.delete(name)
        case "purged":
            # As other clients do, which take the history along.
            subject = f"$KV.{backend.settings.auth_kv_bucket}.{name}"
            purged = {"KV-Operation": "PURGE", "Nats-Rollup": "sub"}
            await publish_acked(backend.connection, subject, b"", headers=purged)
        case "unreadable":
            await bucket.put(name, b"{}")
        case _:
            await store(backend, replace(record, expires_at=time.time() - 1))
    with trio.fail_after(60):
        await standing.ended.wait()
    await ends(backend, key)


async def test_a_key_expires_by_the_clock(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    expires_at = time.time() + 600
    key, _ = await key_for(backend, expires_at=expires_at)
    assert (await backend.authenticate(key)).expires_at == expires_at
    monkeypatch.setattr(time, "time", lambda: expires_at - 1)
    await backend.authenticate(key)
    monkeypatch.setattr(time, "time", lambda: expires_at + 1)
    await refused(backend, key)


async def test_without_a_thread_no_key_is_refused(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, _ = await key_for(backend)

    async def run_sync(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr("trio.to_thread.run_sync", run_sync)
        with pytest.raises(KeysUnavailable, match="can't start new thread"):
            await backend.authenticate(key)
    await backend.authenticate(key)


async def test_a_deleted_key_that_is_stored_again_is_good_again(backend: Backend) -> None:
    key, record = await key_for(backend)
    await bucket_of(backend).delete(bucket_key(record.key_id))
    await ends(backend, key)
    await store(backend, record)
    with trio.fail_after(60):
        while True:
            try:
                await backend.authenticate(key)
                break
            except InvalidApiKey:
                await trio.sleep(0.01)


async def test_a_secret_of_another_key_or_pepper_is_refused(backend: Backend) -> None:
    key, _ = await key_for(backend)
    other, record = await key_for(backend)
    _, secret = parse_key(key)
    await refused(backend, f"pyoco_{record.key_id}.{secret}")
    await refused(backend, other[:-1] + ("A" if other[-1] != "A" else "B"))
    await backend.authenticate(other)


async def test_an_unknown_key_costs_what_a_wrong_one_does(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are derived once, of as much, as often, and compared."""
    _, record = await key_for(backend)
    work: list[tuple[str, int, int, int]] = []

    def derive(name: str, password: bytes, salt: bytes, rounds: int, size: int) -> bytes:
        work.append((name, len(password), len(salt), rounds))
        return pbkdf2_hmac(name, password, salt, rounds, size)

    pbkdf2_hmac = hashlib.pbkdf2_hmac
    monkeypatch.setattr(hashlib, "pbkdf2_hmac", derive)
    for key_id in ("0" * 24, record.key_id):
        await refused(backend, f"pyoco_{key_id}.{'s' * 43}")
    unknown, wrong = work
    assert unknown == wrong
    assert wrong[3] == record.iterations


async def test_a_hundred_calls_with_one_key_cost_one_check(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, _ = await key_for(backend)
    checked: list[str] = []

    def check(record: ApiKeyRecord | None, secret: str, pepper: str | None) -> bool:
        checked.append(secret)
        return matches(record, secret, pepper)

    monkeypatch.setattr("pyoco_server.gateway.key_ring.matches", check)
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(backend.authenticate, key)
    assert checked == [parse_key(key)[1]]


async def test_checks_wait_in_line_off_the_event_loop_and_the_line_has_an_end(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats = 0
    beside: list[bool] = []
    outcomes: list[type[Exception]] = []

    def while_it_beats(*_: object) -> bool:
        """Takes until the event loop has gone on, which it could not do if this were on it."""
        before, ends = beats, time.monotonic() + 20
        while beats == before and time.monotonic() < ends:
            time.sleep(0.001)
        beside.append(beats > before)
        return False

    async def beat() -> None:
        nonlocal beats
        while True:
            await trio.sleep(0.001)
            beats += 1

    async def check(number: int) -> None:
        try:
            await backend.authenticate(f"pyoco_{'0' * 24}.{number:050}")
        except (InvalidApiKey, TooManyChecks) as error:
            outcomes.append(type(error))

    monkeypatch.setattr("pyoco_server.gateway.key_ring.matches", while_it_beats)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat)
        async with trio.open_nursery() as checks:
            for number in range(80):
                checks.start_soon(check, number)
        nursery.cancel_scope.cancel()
    assert outcomes.count(TooManyChecks) == 80 - 64
    assert outcomes.count(InvalidApiKey) == 64
    assert beside == [True] * 64


class Bucket:
    """What the ring asks of its bucket."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.revision = 0

    async def get(self, key: str, *, within: float) -> Entry:
        if key not in self.entries:
            raise KeyNotFound(key, self.revision)
        return self.entries[key]

    async def newest(self, pattern: str, *, within: float) -> int:
        return self.revision


@pytest.mark.parametrize("how", ["deleted", "unreadable", "made anew"])
async def test_a_key_that_ends_while_it_is_checked_lets_nobody_in(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    begun, go_on = trio.Event(), threading.Event()

    def held(record: ApiKeyRecord | None, secret: str, pepper: str | None) -> bool:
        trio.from_thread.run_sync(begun.set)
        assert go_on.wait(60)
        return matches(record, secret, pepper)

    async def refuse() -> None:
        with pytest.raises(InvalidApiKey):
            await ring.authenticate(key)

    key, record = new_key("a", now=time.time(), pepper=None)
    name = bucket_key(record.key_id)
    bucket = Bucket()
    bucket.entries[name] = Entry(name, encode_json(record), 5, 0.0)
    seen: dict[str, list[WatchEvent]] = {
        "deleted": [Deleted(name, 6)],
        "unreadable": [Entry(name, b"{}", 6, 0.0)],
        "made anew": [Reset(), CaughtUp(0)],
    }
    ring = KeyRing(cast(KeyValue, bucket), None)
    ring._apply(CaughtUp(0))
    monkeypatch.setattr(key_ring, "matches", held)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ring.compare)
            while not ring.fresh:
                await trio.sleep(0.001)
            async with trio.open_nursery() as checking:
                checking.start_soon(refuse)
                await begun.wait()
                del bucket.entries[name]
                for event in seen[how]:
                    ring._apply(event)
                while not ring.fresh:
                    await trio.sleep(0.001)
                go_on.set()
            await refuse()
            nursery.cancel_scope.cancel()


async def test_a_key_under_the_name_of_another_is_none() -> None:
    key, record = new_key("a", now=time.time(), pepper=None)
    _, other = new_key("b", now=time.time(), pepper=None)
    bucket = Bucket()
    name = bucket_key(other.key_id)
    bucket.entries[name] = Entry(name, encode_json(record), 5, 0.0)
    ring = KeyRing(cast(KeyValue, bucket), None)
    ring._apply(CaughtUp(0))
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ring.compare)
            while not ring.fresh:
                await trio.sleep(0.001)
            with pytest.raises(InvalidApiKey):
                await ring.authenticate(key.replace(record.key_id, other.key_id))
            nursery.cancel_scope.cancel()


async def test_who_has_no_key_cannot_lock_out_who_has_one(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A good key is not forgotten for any number of bad ones, and is let in beside a line that is full."""
    monkeypatch.setattr(key_ring, "_REMEMBERED", 8)
    key, record = await key_for(backend)
    await backend.authenticate(key)
    for number in range(10):
        await refused(backend, f"pyoco_{'0' * 24}.{number:050}")
    go_on = threading.Event()

    def held(*_: object) -> bool:
        go_on.wait(60)
        return False

    async def wait_in_line(number: int) -> None:
        await refused(backend, f"pyoco_{'1' * 24}.{number:050}")

    monkeypatch.setattr(key_ring, "matches", held)
    try:
        async with trio.open_nursery() as nursery:
            for number in range(64):
                nursery.start_soon(wait_in_line, number)
            await trio.testing.wait_all_tasks_blocked()
            assert (await backend.authenticate(key)).principal.key_id == record.key_id
            with pytest.raises(TooManyChecks):
                await backend.authenticate(UNKNOWN)
            go_on.set()
    finally:
        go_on.set()


async def test_a_good_key_is_computed_once_for_as_long_as_its_record_is_the_same(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_ring, "_REMEMBER_SECONDS", 0.0)
    checked: list[str] = []

    def check(record: ApiKeyRecord | None, secret: str, pepper: str | None) -> bool:
        checked.append(secret)
        return matches(record, secret, pepper)

    monkeypatch.setattr(key_ring, "matches", check)
    key, record = await key_for(backend)
    with trio.fail_after(20):
        for _ in range(3):
            await backend.authenticate(key)
        assert len(checked) == 1
        standing = await backend.authenticate(key)
        await store(backend, replace(record, roles=["submit"]))
        await standing.ended.wait()
        assert (await backend.authenticate(key)).principal.roles == {Role.SUBMIT}
        assert len(checked) == 2


async def test_a_bad_key_is_refused_where_only_good_ones_are_remembered(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_ring, "_REMEMBERED", 1)
    with trio.fail_after(60):
        for _ in range(2):
            key, _ = await key_for(backend)
            await backend.authenticate(key)
            await refused(backend, UNKNOWN)
            await backend.authenticate(key)


async def test_a_bucket_that_cannot_be_asked_lets_nobody_in(backend: Backend) -> None:
    key, _ = await key_for(backend)
    await backend.authenticate(key)
    assert backend.node is not None
    with paused(backend.node), trio.fail_after(60):
        while True:
            try:
                await backend.authenticate(key)
            except KeysUnavailable:
                break
            await trio.sleep(0.05)
        assert not (await backend.readiness()).ready
    with trio.fail_after(60):
        while True:
            try:
                await backend.authenticate(key)
                break
            except KeysUnavailable:
                await trio.sleep(0.05)


async def test_keys_do_not_show_in_the_tree_or_in_a_tap(backend: Backend) -> None:
    key, _ = await key_for(backend)
    seen: list[str] = []
    with backend.system.tap(lambda event: seen.append(repr(event))):
        await backend.authenticate(key)
    tree = backend.system.tree()
    assert isinstance(tree, TreeNode)
    assert not any(parse_key(key)[1] in text for text in [*seen, repr(tree)])
