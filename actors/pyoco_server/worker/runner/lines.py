"""What a guardian says over a child's line when it is over with the child."""

from __future__ import annotations

from typing import Final

import msgspec


class ChildEnd(msgspec.Struct, frozen=True, omit_defaults=True):
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


CHILD_END: Final = msgspec.json.Decoder(ChildEnd)
