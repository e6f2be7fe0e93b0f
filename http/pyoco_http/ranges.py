"""The ``Range`` header of one range (RFC 9110, section 14)."""

from __future__ import annotations

import re
from typing import Final

_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)")


class NotSatisfiable(Exception):
    """The range has no byte of the content."""


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The first byte and the one behind the last that are asked for; None for all.

    What is no range of bytes, or more than one, is ignored, as the standard allows.

    Raises:
        NotSatisfiable: There are no such bytes.
    """
    match = _RANGE.fullmatch((header or "").strip().replace(" ", ""))
    if match is None or match.group(0) == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        count = int(last[:19])
        if count == 0 or size == 0:
            raise NotSatisfiable
        return max(size - count, 0), size
    start = int(first[:19])
    stop = min(int(last[:19]) + 1, size) if last else size
    if last and int(last[:19]) < start:
        return None
    if start >= size:
        raise NotSatisfiable
    return start, stop
