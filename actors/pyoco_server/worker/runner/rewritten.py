"""Lines that are written over and over, as tqdm does its bar: one line of the log, as it was in the end."""

from __future__ import annotations

from typing import Final

from pyoco_server.worker.runner.protocol import StreamName

_MOST_CHARACTERS: Final = 4_096


class RewrittenLines:
    """Holds back lines with a carriage return in them until they end; all else goes on as it comes."""

    def __init__(self) -> None:
        self._held: dict[tuple[str | None, StreamName], str] = {}

    def take(self, task: str | None, stream: StreamName, text: str) -> str:
        """Take what a task printed; return what is to be sent of it and of what was held back."""
        key = (task, stream)
        if key not in self._held and "\r" not in text:
            return text
        *lines, begun = (self._held.pop(key, "") + text).replace("\r\n", "\n").split("\n")
        sent = "".join(f"{_last(line)}\n" for line in lines)
        if "\r" not in begun or len(begun) > _MOST_CHARACTERS:
            return sent + _last(begun)
        self._held[key] = f"{_last(begun)}\r" if begun.endswith("\r") else f"\r{_last(begun)}"
        return sent

    def state(self, task: str | None, stream: StreamName) -> str | None:
        """How a line that is held back is at the moment; None where none is."""
        held = self._held.get((task, stream))
        return None if held is None else _last(held).strip() or None

    def end(self, task: str | None) -> list[tuple[StreamName, str]]:
        """The task, or with None any, prints nothing more: return what was held back of it."""
        if not self._held:
            return []
        mine = [key for key in self._held if task in (None, key[0])]
        return [(key[1], _last(self._held.pop(key))) for key in mine]


def _last(line: str) -> str:
    """How a line is in the end."""
    return next((part for part in reversed(line.split("\r")) if part), "")
