"""Files as streams of pieces, read and written off the event loop."""

from __future__ import annotations

from typing import BinaryIO

from pyoco_server.store.threads import in_thread

PIECE_BYTES = 512 * 1024


class FilePieces:
    """The bytes of an open file from where it stands, in pieces of 512 KiB.

    Args:
        file: Open for reading; stays open.
        limit: The most bytes to read of it.
    """

    def __init__(self, file: BinaryIO, limit: int | None = None) -> None:
        self._file = file
        self._left = limit

    def __aiter__(self) -> FilePieces:
        """Return itself."""
        return self

    async def __anext__(self) -> bytes:
        """The next piece.

        Raises:
            OSError: It cannot be read.
        """
        count = PIECE_BYTES if self._left is None else min(PIECE_BYTES, self._left)
        piece = await in_thread(self._file.read, count) if count else b""
        if not piece:
            raise StopAsyncIteration
        if self._left is not None:
            self._left -= len(piece)
        return piece
