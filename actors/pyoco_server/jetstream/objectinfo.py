"""The metadata message of an object (ADR-20 of nats-architecture-and-design), as nats-py writes it."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from msgspec.structs import asdict

CHUNK_BYTES: Final = 128 * 1024
"""Size of a chunk, the last one apart."""

DIGEST_PREFIX: Final = "SHA-256="


class UnreadableObject(ValueError):
    """A metadata message that is none."""


class ObjectInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an object.

    Attributes:
        name: Its name, any text.
        bucket: The store.
        nuid: Names its chunks; each put has one of its own.
        size: In bytes.
        mtime: When it was put, in ISO 8601.
        chunks: In how many chunks it is stored.
        digest: ``SHA-256=`` and the digest of its bytes in URL-safe base64.
        deleted: Whether this only says that it was there once.
        headers: What its writer says of it.
        options: ``max_chunk_size``; of a link, where it leads.
        sequence: Of the metadata message in the store's stream; not stored.
    """

    name: str
    bucket: str = ""
    nuid: str = ""
    size: int = 0
    mtime: str = ""
    chunks: int = 0
    digest: str = ""
    deleted: bool = False
    description: str | None = None
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    sequence: int = 0

    @property
    def sha256_hex(self) -> str | None:
        """The digest in hex; None where it is not readable."""
        kind, _, text = self.digest.partition("=")
        if kind.upper() != DIGEST_PREFIX[:-1]:
            return None
        try:
            return base64.urlsafe_b64decode(text).hex()
        except ValueError:
            return None

    def header(self, name: str) -> str | None:
        """The value of a header, whatever the case of its name."""
        values = (value for key, value in self.headers.items() if key.lower() == name)
        return next(values, None)


def encode_info(info: ObjectInfo) -> bytes:
    """Write the metadata message; every field that readers of other languages expect is there."""
    fields = asdict(info)
    del fields["sequence"]
    if info.description is None:
        del fields["description"]
    if not info.headers:
        del fields["headers"]
    return msgspec.json.encode(fields)


def decode_info(raw: bytes, *, sequence: int, stored_at: float) -> ObjectInfo:
    """Read a metadata message, of whichever client.

    Args:
        raw: Its payload.
        sequence: Its sequence.
        stored_at: When it was stored, in unix seconds; the time of an object whose writer leaves
            it out, as the one in Go does.

    Raises:
        UnreadableObject: It is none.
    """
    try:
        fields = msgspec.json.decode(raw)
        if not isinstance(fields, dict):
            raise UnreadableObject(f"a JSON object is expected, not {type(fields).__name__}")
        present = {key: value for key, value in fields.items() if value is not None}
        headers = present.get("headers")
        if isinstance(headers, dict):
            # Go writes a list of values for each name.
            present["headers"] = {
                str(key): str(value[0] if isinstance(value, list) and value else value)
                for key, value in headers.items()
            }
        present["sequence"] = sequence
        if not present.get("mtime") and not present.get("deleted"):
            present["mtime"] = iso_time(stored_at)
        return msgspec.convert(present, ObjectInfo)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableObject(str(error)) from None


def iso_time(seconds: float) -> str:
    """A time in ISO 8601, as nats-py writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def encode_name(name: str) -> str:
    """The subject token of an object's metadata."""
    return base64.urlsafe_b64encode(name.encode()).decode()
