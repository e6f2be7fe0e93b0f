"""Forms with small parts, read whole: all of them, or none."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from quart import request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData

from pyoco_http.problems import Problem, unknown_name
from pyoco_http.query import fields_of
from pyoco_server.api.base import FormBody
from pyoco_server.model.errors import ErrorId

_MAX_PARTS = 32


@dataclass
class Form:
    """What came: the text parts, and the bytes of the files, by name.

    Attributes:
        unknown: The refusal of a part that nobody asks for, for whoever misses none of the others.
    """

    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    unknown: Problem | None = None


async def read_form(kind: type[FormBody]) -> Form:
    """Read the multipart body of the request in hand; one of another kind holds nothing.

    Raises:
        Problem: It is broken off or damaged, or has a part twice.
    """
    boundary = request.mimetype_params.get("boundary", "")
    if request.mimetype != "multipart/form-data" or not boundary:
        return Form()
    # Quart's own parser takes what is broken off for whole, and drops the part that it breaks off in.
    decoder = MultipartDecoder(boundary.encode(), max_parts=_MAX_PARTS)
    texts = fields_of(kind)
    files = [name for name in kind.__struct_fields__ if name not in texts]
    reader = _FormReader(texts.keys(), files)
    try:
        decoder.receive_data(await request.body)
        decoder.receive_data(None)
        while not isinstance(event := decoder.next_event(), Epilogue | NeedData):
            reader.take(event)
    except (ValueError, RequestEntityTooLarge) as error:
        raise Problem(
            422, "invalid multipart body", ErrorId.INVALID_INPUT, reason=str(error)
        ) from None
    return reader.form


class _FormReader:
    def __init__(self, fields: Collection[str], files: Collection[str]) -> None:
        self._fields = fields
        self._files = files
        # None where nobody asks for the part in hand.
        self._name: str | None = None
        self._of_file = False
        self._data = bytearray()
        self.form = Form()

    def take(self, event: Event) -> None:
        match event:
            case Field(name=name) | File(name=name):
                self._of_file = isinstance(event, File)
                self._begin(str(name))
            case Data(data=data, more_data=more):
                self._data += data
                if self._name is not None and not more:
                    self._end(self._name)
            case _:
                return

    def _begin(self, name: str) -> None:
        if name not in (self._files if self._of_file else self._fields):
            if name in self._files:
                raise ValueError(f"{name!r} must be a file, with a filename")
            self.form.unknown = unknown_name("field", name, (*self._fields, *self._files))
            self._name = None
            return
        if name in self.form.fields or name in self.form.files:
            raise ValueError(f"field {name!r} is given twice")
        self._name = name
        self._data.clear()

    def _end(self, name: str) -> None:
        if self._of_file:
            self.form.files[name] = bytes(self._data)
            return
        try:
            self.form.fields[name] = self._data.decode()
        except UnicodeDecodeError:
            raise ValueError(f"field {name!r} is not UTF-8") from None
