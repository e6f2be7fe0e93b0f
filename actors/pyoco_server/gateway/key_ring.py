"""Knows every API key: follows their bucket, and checks the keys that calls bring along.

A check takes tens of milliseconds of a core (that is what protects a stolen bucket), so it runs in a
small pool of threads, and its outcome is kept under a fast hash: that of a good key until its record changes,
that of a bad one for a while. A revocation comes in
through the watch and takes effect at once. What the ring knows is compared with the bucket every few
seconds, so that a watch that is stuck cannot keep a revoked key alive for longer than ten.
"""

from __future__ import annotations

import hashlib
import math
import os
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import assert_never

import structlog
import trio

from pyoco_server.jetstream.errors import BridgeError, KeyNotFound
from pyoco_server.jetstream.keyvalue import CaughtUp, Deleted, Entry, KeyValue, Reset, WatchEvent
from pyoco_server.kernel import Refusal
from pyoco_server.model.api_key import (
    ApiKeyRecord,
    MalformedApiKey,
    Principal,
    UnreadableKey,
    bucket_key,
    decode_key,
    matches,
    parse_key,
)
from pyoco_server.store.threads import no_thread_is_os_error

log = structlog.get_logger(__name__)

_COMPARE_SECONDS = 2.0
# Above this age the ring's knowledge counts for nothing; with one comparison under way it is what
# keeps a revocation below ten seconds.
_STALE_SECONDS = 8.0
_REMEMBERED = 4096
_REMEMBER_SECONDS = 60.0
_MOST_WAITING = 64


class InvalidApiKey(Refusal):
    """The key is malformed, unknown, wrong, revoked or expired: which of it, nobody is told."""


class KeysUnavailable(Refusal):
    """The keys could not be read, or not lately enough, so that no key is let through."""


class TooManyChecks(Refusal):
    """More new keys wait to be checked than can be checked soon."""


class Standing:
    """A key that was let in: `ended` is set when it is revoked, deleted or not known any more.

    Attributes:
        principal: Who calls with it.
        expires_at: When it ends, in unix seconds; None for never.
        ended: Set at its end, except by expiry.
    """

    def __init__(self, principal: Principal, expires_at: float | None = None) -> None:
        self.principal = principal
        self.expires_at = expires_at
        self.ended = trio.Event()


class _Known:
    """A record, the revision it is stored under, and the standing of those who were let in with it."""

    def __init__(self, record: ApiKeyRecord, revision: int) -> None:
        self.record = record
        self.revision = revision
        self.standing = Standing(record.principal, record.expires_at)


class _Check:
    """A check that is under way; whoever brings the same key meanwhile waits for it."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.failure: str | None = None


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a check came to; it holds for as long as the key's record is the same."""

    revision: int | None
    matched: bool
    until: float

    def holds(self, known: _Known | None) -> bool:
        revision = None if known is None else known.revision
        return self.revision == revision and trio.current_time() < self.until


class KeyRing:
    """Checks keys, in the task of whoever asks, while `follow` and `compare` run.

    Args:
        pepper: The installation's secret that is hashed along with every key.
    """

    def __init__(self, bucket: KeyValue, pepper: str | None) -> None:
        self._bucket = bucket
        self._pepper = pepper
        self._keys: dict[str, _Known] = {}
        self._seen = 0
        self._start_overs = 0
        self._caught_up = False
        self._fresh_at = float("-inf")
        # The newest revision of the bucket, and when it was asked for, until the watch has shown as much.
        self._wanted: tuple[int, float] | None = None
        # Keys are remembered by a hash that is useless outside of this process.
        self._fast_key = secrets.token_bytes(32)
        self._outcomes: OrderedDict[bytes, _Outcome] = OrderedDict()
        self._checks: dict[bytes, _Check] = {}
        # One core stays free for everything else.
        self._pool = trio.CapacityLimiter(min(max((os.cpu_count() or 2) - 1, 1), 4))

    @property
    def fresh(self) -> bool:
        """Whether the ring knows what the bucket holds."""
        return self._caught_up and trio.current_time() - self._fresh_at < _STALE_SECONDS

    async def authenticate(self, text: str) -> Standing:
        """Check a key; return who calls with it, and when that ends. Cancelled, others are not disturbed.

        Raises:
            InvalidApiKey: It is no key, or not any more.
            KeysUnavailable: The keys could not be read lately.
            TooManyChecks: Too many other keys are being checked.
        """
        try:
            key_id, secret = parse_key(text)
        except MalformedApiKey as error:
            raise InvalidApiKey(str(error)) from None
        digest = hashlib.blake2b(text.encode(), key=self._fast_key, digest_size=32).digest()
        while True:
            if not self.fresh:
                raise KeysUnavailable("the API keys could not be read lately")
            known = self._keys.get(key_id)
            outcome = self._outcomes.get(digest)
            if outcome is not None and outcome.holds(known):
                self._outcomes.move_to_end(digest)
                if outcome.matched and known is not None and known.record.usable(time.time()):
                    return known.standing
                raise InvalidApiKey("no such key, or not any more")
            check = self._checks.get(digest)
            if check is not None:
                # No longer than it takes whoever makes it, or is cancelled.
                await check.done.wait()
            else:
                check = await self._check(digest, key_id, secret)
            if check.failure is not None:
                raise KeysUnavailable(check.failure)

    # Tasks --------------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Follow the bucket, for as long as it is not cancelled."""
        async with self._bucket.watch("api_keys.>") as changes:
            async for event in changes:
                self._apply(event)

    async def compare(self) -> None:
        """Compare what the watch has brought with the bucket every two seconds."""
        while True:
            began = trio.current_time()
            try:
                newest = await self._bucket.newest("api_keys.>", within=2.0)
            except BridgeError as error:
                log.debug("keys not compared", reason=str(error))
            else:
                self._wanted = newest, began
                self._settle_freshness()
            await trio.sleep(_COMPARE_SECONDS if self._caught_up else 0.1)

    async def close(self) -> None:
        """End every standing: nobody would tell their holders of a revocation."""
        self._start_over()

    # What is known ------------------------------------------------------------------------------

    def _apply(self, event: WatchEvent) -> None:
        match event:
            case Reset():
                self._start_over()
                return
            case Entry(key, value, revision):
                self._learn(key.removeprefix("api_keys."), value, revision)
            case Deleted(key):
                self._forget(key.removeprefix("api_keys."))
            case CaughtUp():
                self._caught_up = True
            case _:
                assert_never(event)
        self._seen = max(self._seen, event.revision)
        self._settle_freshness()

    def _start_over(self) -> None:
        """No key of a bucket that is gone is valid; those of the present one follow."""
        for key_id in tuple(self._keys):
            self._forget(key_id)
        # What they were found to be may be that of another record of the same revision.
        self._outcomes.clear()
        self._start_overs += 1
        self._seen = 0
        self._caught_up = False

    def _learn(self, key_id: str, value: bytes, revision: int) -> None:
        known = self._keys.get(key_id)
        if known is not None and known.revision >= revision:
            return
        self._forget(key_id)
        try:
            record = decode_key(value)
        except UnreadableKey as error:
            log.warning("unreadable API key record", key_id=key_id, reason=str(error))
            return
        if record.key_id != key_id:
            log.warning("API key record under another key's name", key_id=key_id)
            return
        self._keys[key_id] = _Known(record, revision)

    def _forget(self, key_id: str) -> None:
        known = self._keys.pop(key_id, None)
        if known is not None:
            known.standing.ended.set()

    def _settle_freshness(self) -> None:
        if self._wanted is None or not self._caught_up:
            return
        newest, asked_at = self._wanted
        if self._seen >= newest:
            self._fresh_at = max(self._fresh_at, asked_at)
            self._wanted = None

    # Checking -----------------------------------------------------------------------------------

    async def _check(self, digest: bytes, key_id: str, secret: str) -> _Check:
        """Check a secret against what is stored now: the key may be newer than what the watch brought."""
        if len(self._checks) >= _MOST_WAITING:
            raise TooManyChecks(f"{_MOST_WAITING} API keys wait to be checked")
        check = self._checks[digest] = _Check()
        try:
            start_overs = self._start_overs
            found = await self._look_up(key_id)
            record = None if found is None else found.record
            with no_thread_is_os_error():
                matched = await trio.to_thread.run_sync(
                    matches, record, secret, self._pepper, limiter=self._pool
                )
            # What was found in a bucket that is gone says nothing: it is checked once more.
            if start_overs == self._start_overs:
                self._conclude(digest, key_id, found, matched)
        except (BridgeError, OSError) as error:
            check.failure = str(error)
        finally:
            del self._checks[digest]
            check.done.set()
        return check

    async def _look_up(self, key_id: str) -> _Known | None:
        try:
            entry = await self._bucket.get(bucket_key(key_id), within=2.0)
            record = decode_key(entry.value)
        except (KeyNotFound, UnreadableKey):
            return None
        return _Known(record, entry.revision) if record.key_id == key_id else None

    def _conclude(self, digest: bytes, key_id: str, found: _Known | None, matched: bool) -> None:
        known = self._keys.get(key_id)
        newest = self._seen if known is None else max(self._seen, known.revision)
        if found is not None and found.revision > newest:
            # Ahead of the watch, which will bring the same; what the watch has passed may be gone by now.
            self._forget(key_id)
            self._keys[key_id] = known = found
        same = (
            known is not None
            and found is not None
            and (known.record.hash_b64, known.record.salt_b64)
            == (found.record.hash_b64, found.record.salt_b64)
        )
        revision = None if known is None else known.revision
        good = matched and same
        until = math.inf if good else trio.current_time() + _REMEMBER_SECONDS
        self._outcomes[digest] = _Outcome(revision, good, until)
        self._outcomes.move_to_end(digest)
        if len(self._outcomes) > _REMEMBERED:
            self._forget_one(but=digest)

    def _forget_one(self, *, but: bytes) -> None:
        """Forget what a key was found to be: of a good one last, or who has none could lock out who has."""
        oldest = next(iter(self._outcomes))
        bad = (key for key, found in self._outcomes.items() if not found.matched and key != but)
        del self._outcomes[next(bad, oldest)]
