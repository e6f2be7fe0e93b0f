"""What is taken of what a run prints: no more than there is room for, and of a line only its last state."""

from __future__ import annotations

from typing import Final

from pyoco_server.worker.runner.protocol import StreamName

_MOST_CHARACTERS: Final = 4_096


class Allowance:
    """How much of what a run prints is still taken; what is beyond it is counted.

    Args:
        characters: How much is taken in all.
    """

    def __init__(self, characters: int) -> None:
        self._characters = self._left = characters
        self._left_out = 0

    def renew(self) -> int:
        """Count anew; return how many characters were left out."""
        left_out, self._left_out = self._left_out, 0
        self._left = self._characters
        return left_out

    def give_back(self, characters: int) -> None:
        """Take so many characters for not printed."""
        self._left += characters

    def take(self, text: str) -> str:
        """Return what is taken of a text; where the rest begins to be left out, it says so itself."""
        beyond = len(text) - self._left
        if beyond <= 0:
            self._left -= len(text)
            return text
        note = f"\n… more than {self._characters} characters were printed; the rest is left out …\n"
        text = text[: self._left] + ("" if self._left_out else note)
        self._left = 0
        self._left_out += beyond
        return text


class RewrittenLines:
    """Takes lines that are written over and over, as tqdm does its bar, for one, as it was in the end.

    It holds back lines with a carriage return in them until they end; all else goes on as it comes.
    """

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
