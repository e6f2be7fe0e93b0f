"""Server-sent events out of bytes.

The rules are those of the HTML standard, "Interpreting an event stream"
(https://html.spec.whatwg.org/multipage/server-sent-events.html).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass

_LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event of a stream."""

    data: str
    event: str = "message"
    id: str = ""


class SseParser:
    """Takes the bytes of one stream, in chunks cut anywhere, and gives its events.

    An event that is not complete when the stream ends is never given, as the standard has it.
    """

    def __init__(self) -> None:
        # "utf-8-sig" drops the byte order mark that a stream may begin with.
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._parts: list[str] = []
        self._after_cr = False
        self._event = ""
        self._data: list[str] = []
        self._id = ""

    def feed(self, chunk: bytes) -> Iterator[SseEvent]:
        """Take in ``chunk`` and give the events that it completes."""
        text = self._decoder.decode(chunk)
        if not text:
            return
        # A CR ends its line at once; the LF that may follow it in the next chunk belongs to it.
        if self._after_cr and text.startswith("\n"):
            text = text[1:]
            if not text:
                self._after_cr = False
                return
        self._after_cr = text.endswith("\r")
        *lines, rest = _LINE_END.split(text)
        for line in lines:
            self._parts.append(line)
            whole = "".join(self._parts)
            self._parts.clear()
            event = self._take(whole)
            if event is not None:
                yield event
        if rest:
            self._parts.append(rest)

    def _take(self, line: str) -> SseEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._event = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id = value
            case _:
                # A comment (no name), "retry" (we have our own delays), or unknown.
                pass
        return None

    def _dispatch(self) -> SseEvent | None:
        event, data = self._event or "message", self._data
        self._event = ""
        self._data = []
        # The standard ignores an event that has no data line.
        return SseEvent("\n".join(data), event, self._id) if data else None
