"""What a guardian says over a child's line when it is over with the child."""

from __future__ import annotations

import resource
from dataclasses import dataclass

from pyoco_server.worker.runner.meter import KIB


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """How a child ended.

    Attributes:
        returncode: Its exit code, negative for a signal.
        peak_memory_bytes: The most memory that it had, since it was told to forget that last.
        cpu_sec: The processor time of its whole life, with what it started and waited for.
        refused: Instead of all this, the ``errno`` for which it could not be made.
    """

    returncode: int
    peak_memory_bytes: int | None = None
    cpu_sec: float | None = None
    refused: int | None = None


def encode_refusal(number: int) -> bytes:
    """Write that the child could not be made."""
    return f"no {number}".encode()


def encode_end(returncode: int, taken: resource.struct_rusage) -> bytes:
    """Write how the child ended."""
    cpu_sec = taken.ru_utime + taken.ru_stime
    return f"{returncode} {taken.ru_maxrss * KIB} {cpu_sec:.6f}".encode()


def decode_end(word: bytes) -> ChildEnd:
    """Read either."""
    first, *others = word.split()
    if first == b"no":
        return ChildEnd(1, refused=int(others[0]))
    if not others:
        return ChildEnd(int(first))
    return ChildEnd(int(first), int(others[0]), float(others[1]))
