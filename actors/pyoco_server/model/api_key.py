"""API keys: the text that a client shows, the record that is stored of it, and what it may do.

Text and record are those of pyoco-server 0.5.1, which ignores the fields that are added here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec

from pyoco_server.model.errors import ErrorId, ModelError
from pyoco_server.model.json_text import decode_json

KDF: Final = "pbkdf2_hmac_sha256"
ITERATIONS: Final = 200_000
_MOST_ITERATIONS: Final = 5_000_000
_SALT_BYTES: Final = 16
_SECRET_BYTES: Final = 32
_HASH_BYTES: Final = 32

TENANT_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_KEY_ID: Final = re.compile(r"[A-Za-z0-9_-]{8,64}")
_KEY_TEXT: Final = re.compile(r"pyoco_([A-Za-z0-9_-]{8,64})\.([A-Za-z0-9_-]{16,256})")


class Role(StrEnum):
    """What a key may do beyond reading what is its tenant's."""

    SUBMIT = "submit"
    """Submit, cancel and retry the tenant's runs."""
    OPERATE = "operate"
    """Steer workers, see to dead letters, and upload and delete the tenant's wheels, which is running
    code on workers."""
    ADMIN = "admin"
    """Upload and delete wheels that all tenants share, and look into the gateway."""


ALL_ROLES: Final = frozenset(Role)


class MalformedApiKey(ModelError):
    """A text that cannot be an API key, a key id, or a tenant id."""

    error_id = ErrorId.API_KEY_INVALID


class UnreadableKey(ModelError):
    """Bytes that are no API key record."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a call.

    Attributes:
        tenant_id: Whose runs it sees; None, where no keys are asked for, is all.
        key_id: Its key, None where no keys are asked for.
        roles: What it may do beyond reading.
    """

    tenant_id: str | None = None
    key_id: str | None = None
    roles: frozenset[Role] = ALL_ROLES

    @property
    def actor(self) -> str | None:
        """How records name it, such as ``api_key:<key_id>``."""
        return None if self.key_id is None else f"api_key:{self.key_id}"

    @property
    def knows_all(self) -> bool:
        """Whether it may know of all that tenants have at the workers they share: tags, queues, wheels."""
        return self.key_id is None or Role.ADMIN in self.roles

    def sees(self, tenant_id: str | None) -> bool:
        """Whether it may know of what belongs to this tenant."""
        return self.key_id is None or self.tenant_id == tenant_id


class ApiKeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of a key. Times are unix seconds; the key itself cannot be made from it.

    The fields from ``roles`` on are not in records of pyoco-server 0.5.1.
    """

    key_id: str
    tenant_id: str
    salt_b64: str
    hash_b64: str
    kdf: str = KDF
    iterations: int = ITERATIONS
    created_at: float = 0.0
    revoked_at: float | None = None
    roles: list[str] | None = None
    """None is all roles, as every key of 0.5.1 has."""
    expires_at: float | None = None
    """None is never."""

    def usable(self, now: float) -> bool:
        """Whether the key is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    @property
    def principal(self) -> Principal:
        """Who calls with this key. A role that this version does not know gives nothing."""
        roles = ALL_ROLES if self.roles is None else ALL_ROLES.intersection(self.roles)
        return Principal(self.tenant_id, self.key_id, frozenset(roles))


def new_key(
    tenant_id: str,
    *,
    now: float,
    pepper: str | None = None,
    roles: Iterable[Role] = ALL_ROLES,
    expires_at: float | None = None,
) -> tuple[str, ApiKeyRecord]:
    """Make a key; return its text, which is stored nowhere, and its record.

    Args:
        tenant_id: Whose key it is.
        now: Unix seconds.
        pepper: The installation's secret that is hashed along.
        roles: What the key may do beyond reading.
        expires_at: When it ends, in unix seconds.

    Raises:
        MalformedApiKey: ``tenant_id`` cannot be one.
    """
    if TENANT_ID.fullmatch(tenant_id) is None:
        raise MalformedApiKey(
            f"a tenant id has 1 to 64 of the characters A-Z a-z 0-9 _ -, not {tenant_id[:80]!r}"
        )
    # Hexadecimal never begins with "-", which commands would take for an option.
    key_id = secrets.token_hex(12)
    secret = _to_base64(secrets.token_bytes(_SECRET_BYTES))
    salt = secrets.token_bytes(_SALT_BYTES)
    record = ApiKeyRecord(
        key_id=key_id,
        tenant_id=tenant_id,
        salt_b64=_to_base64(salt),
        hash_b64=_to_base64(_derive(secret, salt, ITERATIONS, pepper)),
        created_at=now,
        roles=sorted(roles),
        expires_at=expires_at,
    )
    return f"pyoco_{key_id}.{secret}", record


def parse_key(text: str) -> tuple[str, str]:
    """Return the key id and the secret of a key's text.

    Raises:
        MalformedApiKey: It is no ``pyoco_<key_id>.<secret>``. The error does not repeat it.
    """
    match = _KEY_TEXT.fullmatch(text)
    if match is None:
        raise MalformedApiKey("an API key is written pyoco_<key_id>.<secret>")
    return match[1], match[2]


def check_key_id(text: str) -> str:
    """Return ``text``.

    Raises:
        MalformedApiKey: It cannot be the id of a key.
    """
    if _KEY_ID.fullmatch(text) is None:
        raise MalformedApiKey(
            f"a key id has 8 to 64 of the characters A-Z a-z 0-9 _ -, not {text[:80]!r}"
        )
    return text


def matches(record: ApiKeyRecord | None, secret: str, pepper: str | None) -> bool:
    """Whether ``secret`` is that of the record; takes tens of milliseconds, also without a record."""
    salt, expected, iterations = b"\0" * _SALT_BYTES, b"", ITERATIONS
    if record is not None:
        salt, expected = _from_base64(record.salt_b64), _from_base64(record.hash_b64)
        iterations = record.iterations
    return hmac.compare_digest(_derive(secret, salt, iterations, pepper), expected)


def bucket_key(key_id: str) -> str:
    """Where the auth bucket holds the record of a key."""
    return f"api_keys.{key_id}"


def decode_key(raw: bytes) -> ApiKeyRecord:
    """Read a record of any version.

    Raises:
        UnreadableKey: It is none.
    """
    try:
        data: Any = decode_json(raw)
        if isinstance(data, dict):
            for name in ("kdf", "iterations", "created_at"):
                if not data.get(name):
                    data.pop(name, None)
        record = msgspec.convert(data, ApiKeyRecord)
        hash_bytes = len(_from_base64(record.hash_b64))
        _from_base64(record.salt_b64)
    except (ValueError, binascii.Error) as error:
        raise UnreadableKey(f"not an API key record: {error}") from None
    if record.kdf != KDF or not 1 <= record.iterations <= _MOST_ITERATIONS:
        raise UnreadableKey(f"kdf {record.kdf!r} with {record.iterations} iterations: takes {KDF}")
    if hash_bytes != _HASH_BYTES:
        raise UnreadableKey(f"a hash of {hash_bytes} bytes: takes {_HASH_BYTES}")
    return record


def _derive(secret: str, salt: bytes, iterations: int, pepper: str | None) -> bytes:
    password = (secret + (pepper or "")).encode()
    return hashlib.pbkdf2_hmac("sha256", password, salt, iterations, _HASH_BYTES)


def _to_base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _from_base64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
