"""Commands on a terminal of a given size, seen as a person sees them."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyte

from e2e.programs import BIN

CTRL_C = b"\x03"


class Terminal:
    """A pseudo terminal with one command on it.

    Attributes:
        screen: What it shows.
        raw: All that the command has written.
    """

    def __init__(self, process: subprocess.Popen[bytes], master: int, columns: int, lines: int):
        self.screen = pyte.HistoryScreen(columns, lines, history=1000, ratio=1)
        self.raw = b""
        self._stream = pyte.ByteStream(self.screen)
        self._process = process
        self._master = master

    @property
    def lines(self) -> list[str]:
        """The lines of the screen, without the blanks at their ends."""
        return [line.rstrip() for line in self.screen.display]

    @property
    def text(self) -> str:
        """What scrolled off, and the screen."""
        columns = self.screen.columns
        gone = [
            "".join(line[column].data for column in range(columns)).rstrip()
            for line in self.screen.history.top
        ]
        return "\n".join([*gone, *self.lines])

    def see(self, condition: Callable[[], Any], *, within: float = 60.0, what: str = "") -> None:
        """Read until ``condition`` holds; fails the test after ``within`` seconds."""
        deadline = time.monotonic() + within
        while not condition():
            left = deadline - time.monotonic()
            assert left > 0, f"not seen within {within:g} s: {what}\n{self.text}"
            self._read(min(left, 0.2))

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def end(self, within: float = 60.0) -> int:
        """Read what is left, and return the exit code."""
        self.see(lambda: self._process.poll() is not None, within=within, what="its end")
        while self._read(0.05):
            pass
        return self._process.returncode

    def attributes(self) -> list[Any]:
        """The modes of the terminal: echo, line editing, signals, …."""
        return termios.tcgetattr(self._master)

    def _read(self, seconds: float) -> bool:
        readable, _, _ = select.select([self._master], [], [], seconds)
        if not readable:
            return False
        data = os.read(self._master, 65536)
        self.raw += data
        self._stream.feed(data)
        return True


@contextmanager
def on_terminal(
    *argv: str, folder: Path, env: Mapping[str, str], columns: int = 80, lines: int = 24
) -> Iterator[Terminal]:
    """Run a command on a terminal of its own, where Ctrl-C is a key as for a person."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    without = {k: v for k, v in env.items() if k not in {"COLUMNS", "LINES", "NO_COLOR"}}
    try:
        process = subprocess.Popen(
            # The command gets the terminal as its controlling one, as a shell would give it.
            ["setsid", "--ctty", str(BIN / argv[0]), *argv[1:]],
            cwd=folder,
            env={**without, "TERM": "xterm-256color", "LANG": "C.UTF-8"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        try:
            yield Terminal(process, master, columns, lines)
        finally:
            process.kill()
            process.wait(10)
    finally:
        os.close(master)
        os.close(slave)
