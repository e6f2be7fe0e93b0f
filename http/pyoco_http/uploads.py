"""Multipart uploads that go to disk as they come."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import trio
from quart import request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData

from pyoco_http.problems import Problem, unknown_name
from pyoco_http.query import UnusableText, fields_of, read_fields, refused
from pyoco_server.api.base import FormBody, Query
from pyoco_server.model.errors import ErrorId

_FIELD_BYTES = 64 * 1024
_BUFFER_BYTES = 2 * 1024 * 1024
_MAX_PARTS = 16
# A client that is told "too large" while it still sends may never read the answer; so much more is heard.
_HEAR_OUT_BYTES = 64 * 1024 * 1024


class FileTooLarge(Exception):
    """The file part is longer than allowed."""


@dataclass
class Upload:
    """What came.

    Attributes:
        file: The bytes of the file part; it has no name on disk.
        filename: As the client calls it.
        content_type: Likewise.
        size_bytes: How many they are.
        sha256: Their digest in hex.
        fields: The text parts, read; without empty ones.
    """

    file: BinaryIO
    filename: str | None = None
    content_type: str | None = None
    size_bytes: int = 0
    sha256: str = ""
    fields: dict[str, Any] = field(default_factory=dict)


@asynccontextmanager
async def spooled_upload(
    kind: type[FormBody], part: str, folder: Path, max_bytes: int
) -> AsyncIterator[Upload]:
    """Take the body of the request in hand; its file part is on disk for the length of the block.

    At most about a mebibyte of it is in memory at any time.

    Args:
        kind: The form.
        part: Name of its file part.
        folder: Where there is room for it; made when missing.
        max_bytes: How long the file may be.

    Raises:
        FileTooLarge: It is longer.
        Problem: The body is no multipart form, has no such part or one that nobody asks for, or stops coming.
    """
    boundary = request.mimetype_params.get("boundary", "")
    if request.mimetype != "multipart/form-data" or not boundary:
        raise _missing(part)
    file = await trio.to_thread.run_sync(_open, folder)
    try:
        upload = Upload(file)
        reader = _Reader(upload, part, max_bytes, fields_of(kind).keys())
        decoder = MultipartDecoder(boundary.encode(), _BUFFER_BYTES, max_parts=_MAX_PARTS)
        try:
            await _receive(decoder, reader)
            upload.fields = read_fields(kind, reader.texts.items())
        except UnusableText as error:
            raise refused(Query, error.name, error.takes) from None
        except (ValueError, RequestEntityTooLarge) as error:
            raise Problem(
                422, "invalid multipart body", ErrorId.INVALID_INPUT, reason=str(error)
            ) from None
        if reader.size > max_bytes:
            raise FileTooLarge
        if upload.filename is None:
            raise _missing(part)
        upload.size_bytes, upload.sha256 = reader.size, reader.digest.hexdigest()
        yield upload
    finally:
        file.close()


def _open(folder: Path) -> BinaryIO:
    folder.mkdir(parents=True, exist_ok=True)
    # Without a name from the start, so that not even a crash leaves it behind.
    return cast(BinaryIO, tempfile.TemporaryFile(dir=folder))


def _missing(part: str) -> Problem:
    return Problem(
        422,
        f"missing {part}",
        ErrorId.INVALID_INPUT,
        field=part,
        reason=f"send the file as the multipart file field {part!r}",
    )


async def _receive(decoder: MultipartDecoder, reader: _Reader) -> None:
    body = aiter(request.body)
    while True:
        data = await anext(body, b"")
        decoder.receive_data(data or None)
        while not isinstance(event := decoder.next_event(), (NeedData, Epilogue)):
            reader.take(event)
        await reader.write()
        if not data or reader.heard_enough:
            return


class _Reader:
    """Sorts the parts; what belongs to the file is written to disk in a thread."""

    def __init__(self, upload: Upload, part: str, max_bytes: int, fields: Collection[str]) -> None:
        self._fields = fields
        self._upload = upload
        self._part = part
        self._max = max_bytes
        self._current: str | None = None
        self._pieces: list[bytes] = []
        self._text = bytearray()
        self.texts: dict[str, str] = {}
        self.size = 0
        self.digest = hashlib.sha256()

    @property
    def heard_enough(self) -> bool:
        """Whether the file is so far beyond its limit that its rest does not matter."""
        return self.size > self._max + _HEAR_OUT_BYTES

    def take(self, event: Event) -> None:
        """Take up a piece of the body."""
        match event:
            case File(name=name, filename=filename, headers=headers) if (
                name == self._part and self._upload.filename is None
            ):
                self._current = None
                self._upload.filename = filename
                self._upload.content_type = headers.get("content-type")
            case File(name=name):
                raise ValueError(f"file field {name!r} is not expected")
            case Field(name=name) if str(name) not in self._fields:
                raise unknown_name("field", str(name), (*self._fields, self._part))
            case Field(name=name) if str(name) in self.texts:
                raise ValueError(f"field {name!r} is given twice")
            case Field(name=name):
                self._current = name
                self._text.clear()
            case Data(data=data, more_data=more):
                self._take_data(data, more=more)
            case _:
                return

    def _take_data(self, data: bytes, *, more: bool) -> None:
        if self._current is None:
            self.size += len(data)
            self._pieces.append(bytes(data))
            return
        self._text += data
        if len(self._text) > _FIELD_BYTES:
            raise ValueError(f"field {self._current!r} is longer than {_FIELD_BYTES} bytes")
        if not more:
            self.texts[self._current] = self._text.decode("utf-8", "replace")

    async def write(self) -> None:
        """Write what came of the file; beyond its limit it is only counted."""
        pieces, self._pieces = self._pieces, []
        if pieces and self.size <= self._max:
            await trio.to_thread.run_sync(self._write, pieces)

    def _write(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self.digest.update(piece)
            self._upload.file.write(piece)
        # Whoever takes the file over does so by its descriptor.
        self._upload.file.flush()
