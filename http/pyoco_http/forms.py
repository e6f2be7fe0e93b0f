"""Multipart forms: their texts, and the file that each is about, in memory or on disk as it comes."""

from __future__ import annotations

import codecs
import hashlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

import trio
from quart import request
from werkzeug.datastructures import Headers
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData

from pyoco_http.problems import Problem, unknown_name
from pyoco_http.query import UnusableText, fields_of, read_fields, refused
from pyoco_server.api.base import FormBody, Query
from pyoco_server.model.errors import ErrorId
from pyoco_server.store.threads import read_aside

_TEXT_BYTES = 64 * 1024
_BUFFER_BYTES = 2 * 1024 * 1024
_MAX_PARTS = 32
# As many as there may be (RFC 2046, 5.1.1): to look for a boundary takes its length times that of the body.
_BOUNDARY_BYTES = 70
# Others may take a time that grows with the square of the text (punycode).
_CHARSETS = frozenset({"utf-8", "ascii", "iso8859-1"})


class FileTooLarge(Exception):
    """The file is longer than allowed."""


@dataclass
class Form:
    """What came.

    Attributes:
        file: The bytes of its file.
        filename: As the client calls that; None where there is none.
        content_type: Likewise.
        size_bytes: How many bytes it has.
        sha256: Their digest in hex.
        texts: The other parts, by name.
        unknown: The refusal of a part that nobody asks for, for whoever misses none of the others.
    """

    file: BinaryIO
    filename: str | None = None
    content_type: str | None = None
    size_bytes: int = 0
    sha256: str = ""
    texts: dict[str, str] = field(default_factory=dict)
    unknown: Problem | None = None


async def read_form(kind: type[FormBody]) -> Form:
    """Read the body of the request in hand into memory; one of another kind holds nothing.

    Raises:
        Problem: It is broken off or damaged, or has a part twice.
    """
    reader = _Reader(kind, BytesIO())
    if boundary := _boundary():
        # Quart's own parser takes what is broken off for whole, and drops the part that it breaks off in.
        decoder = MultipartDecoder(boundary, max_parts=_MAX_PARTS)
        body: bytes = await request.body
        await read_aside(len(body), partial(reader.read, decoder, body))
    return reader.form


@asynccontextmanager
async def spooled_form(
    kind: type[FormBody], folder: Path, max_bytes: int
) -> AsyncIterator[tuple[Form, dict[str, Any]]]:
    """Read the body of the request in hand; its file is on disk for the length of the block, without a name.

    At most about a mebibyte of it is in memory at any time.

    Args:
        kind: The form.
        folder: Where there is room for the file; made when missing.
        max_bytes: How long that may be.

    Yields:
        What came, and its texts as they are read, without empty ones.

    Raises:
        FileTooLarge: The file is longer.
        Problem: The body is no multipart form, has no file or a part that nobody asks for, or stops coming.
    """
    with await trio.to_thread.run_sync(_open, folder) as file:
        reader = _Reader(kind, file, spooled=True)
        form = reader.form
        if boundary := _boundary():
            decoder = MultipartDecoder(boundary, _BUFFER_BYTES, max_parts=_MAX_PARTS)
            with _damaged():
                await _spool(decoder, reader, max_bytes)
        try:
            fields = read_fields(kind, form.texts.items())
        except UnusableText as error:
            raise refused(Query, error.name, error.takes) from None
        if form.size_bytes > max_bytes:
            raise FileTooLarge
        if form.filename is None:
            reason = f"send the file as the multipart file field {reader.part!r}"
            raise Problem(
                422,
                f"missing {reader.part}",
                ErrorId.INVALID_INPUT,
                field=reader.part,
                reason=reason,
            )
        yield form, fields


def _boundary() -> bytes:
    """What is between the parts; empty for a body of another kind.

    Raises:
        Problem: It is too long.
    """
    if request.mimetype != "multipart/form-data":
        return b""
    boundary = request.mimetype_params.get("boundary", "").encode()
    with _damaged():
        if len(boundary) > _BOUNDARY_BYTES:
            raise ValueError(f"its boundary is longer than {_BOUNDARY_BYTES} bytes")
    return boundary


@contextmanager
def _damaged() -> Iterator[None]:
    try:
        yield
    except (ValueError, RequestEntityTooLarge) as error:
        raise Problem(
            422, "invalid multipart body", ErrorId.INVALID_INPUT, reason=str(error)
        ) from None


def _open(folder: Path) -> BinaryIO:
    folder.mkdir(parents=True, exist_ok=True)
    # Without a name from the start, so that not even a crash leaves it behind.
    return cast(BinaryIO, tempfile.TemporaryFile(dir=folder))


async def _spool(decoder: MultipartDecoder, reader: _Reader, max_bytes: int) -> None:
    body = aiter(request.body)
    while True:
        data = await anext(body, b"")
        reader.feed(decoder, data)
        pieces, size = reader.taken(), reader.form.size_bytes
        # Beyond its limit it is only counted.
        if pieces and size <= max_bytes:
            await trio.to_thread.run_sync(reader.write, pieces)
        if not data:
            return


class _Reader:
    """Sorts the parts of a form.

    Args:
        kind: The form.
        file: Where its file goes.
        spooled: Whether the form may be longer than what is kept in memory, so that what cannot be taken is
            refused as it comes.

    Attributes:
        part: The name of its file.
        form: What came so far.
    """

    def __init__(self, kind: type[FormBody], file: BinaryIO, *, spooled: bool = False) -> None:
        self._fields = fields_of(kind).keys()
        [self.part] = [name for name in kind.__struct_fields__ if name not in self._fields]
        self.form = Form(file)
        self._spooled = spooled
        # The part in hand; None for one that nobody asks for.
        self._name: str | None = None
        self._pieces: list[bytes] = []
        self._text = bytearray()
        self._headers = Headers()
        self._digest = hashlib.sha256()

    def read(self, decoder: MultipartDecoder, body: bytes) -> None:
        """Take up a whole body, and write its file.

        Raises:
            Problem: It makes no sense.
        """
        with _damaged():
            self.feed(decoder, body)
            self.feed(decoder, b"")
        self.write(self.taken())

    def feed(self, decoder: MultipartDecoder, data: bytes) -> None:
        """Take up a piece of the body; an empty one is its end.

        Raises:
            ValueError: It makes no sense.
        """
        decoder.receive_data(data or None)
        while not isinstance(event := decoder.next_event(), NeedData | Epilogue):
            self._take(event)

    def taken(self) -> list[bytes]:
        """The pieces of the file that are not written yet; they are written by `write`."""
        pieces, self._pieces = self._pieces, []
        return pieces

    def write(self, pieces: list[bytes]) -> None:
        """Write them; whoever takes the file over does so by its descriptor."""
        for piece in pieces:
            self._digest.update(piece)
            self.form.file.write(piece)
        self.form.file.flush()
        self.form.sha256 = self._digest.hexdigest()

    def _take(self, event: Event) -> None:
        form = self.form
        match event:
            case Field() | File():
                self._begin(event, name_of(event))
            case Data(data=data) if self._name == self.part:
                form.size_bytes += len(data)
                self._pieces.append(bytes(data))
            case Data(data=data, more_data=more) if self._name is not None:
                self._take_text(self._name, data, more=more)
            case _:
                return

    def _begin(self, part: Field | File, name: str) -> None:
        if name in self.form.texts or (name == self.part and self.form.filename is not None):
            raise ValueError(f"field {name!r} is given twice")
        if isinstance(part, File) and name in self._fields:
            raise ValueError(f"{name!r} must be a text, without a filename")
        if isinstance(part, Field) and name == self.part:
            raise ValueError(f"{name!r} must be a file, with a filename")
        self._name, self._headers = name, part.headers
        self._text.clear()
        if isinstance(part, File) and name == self.part:
            self.form.filename = part.filename
            self.form.content_type = part.headers.get("content-type")
        elif name not in self._fields:
            if self._spooled and isinstance(part, File):
                raise ValueError(f"file field {name!r} is not expected")
            unknown = unknown_name("field", name, (*self._fields, self.part))
            if self._spooled:
                raise unknown
            self._name, self.form.unknown = None, unknown

    def _take_text(self, name: str, data: bytes, *, more: bool) -> None:
        self._text += data
        if self._spooled and len(self._text) > _TEXT_BYTES:
            raise ValueError(f"field {name!r} is longer than {_TEXT_BYTES} bytes")
        if not more:
            self.form.texts[name] = text_of(name, self._text, self._headers)


def name_of(part: Field | File) -> str:
    """The name of a part that begins.

    Raises:
        ValueError: It has none, or its bytes are not sent as they are (RFC 7578, 4.7).
    """
    name: str | None = part.name
    if name is None:
        raise ValueError("a part has no name")
    encoding = part.headers.get("content-transfer-encoding", "binary").strip().lower()
    if encoding not in {"binary", "8bit", "7bit"}:
        raise ValueError(f"field {name!r} is encoded as {encoding[:80]}; send it as it is")
    return name


def text_of(name: str, data: bytearray, headers: Headers) -> str:
    """The text of a part.

    Raises:
        ValueError: It is not UTF-8, or may be another text in the charset that it is said to be in.
    """
    _, options = parse_options_header(headers.get("content-type", ""))
    charset = options.get("charset", "utf-8")
    try:
        text, codec = data.decode(), codecs.lookup(charset).name
        if codec in _CHARSETS and data.decode(codec) == text:
            return text
    except (UnicodeError, LookupError):
        pass  # told in the same way
    raise ValueError(f"field {name!r} is not UTF-8")
