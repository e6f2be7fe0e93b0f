"""A download, and whether what came is what was saved."""

from __future__ import annotations

import hashlib
import io
from typing import BinaryIO


class DamagedDownload(ValueError):
    """What came is not what was saved: its digest is another."""


class Download:
    """One download over as many connections as it takes.

    Args:
        name: What is downloaded, for errors.
        to: Where its bytes are written.
    """

    def __init__(self, name: str, to: BinaryIO) -> None:
        self._name = name
        self._to = to
        self._digest = hashlib.sha256()
        self._etag: str | None = None
        self.size = 0

    def begin(self, status: int, etag: str | None) -> None:
        """An answer begins; one that does not go on where the last one broke starts over."""
        if self.size and (status != 206 or etag != self._etag):
            self._to.seek(-self.size, io.SEEK_CUR)  # what was there before stays
            self._to.truncate()
            self._digest = hashlib.sha256()
            self.size = 0
        self._etag = etag

    def take(self, piece: bytes) -> None:
        """Write a piece."""
        self._to.write(piece)
        self._digest.update(piece)
        self.size += len(piece)

    def end(self) -> str:
        """Return the digest in hex.

        Raises:
            DamagedDownload: It is not the one that the gateway told.
        """
        found = self._digest.hexdigest()
        told = (self._etag or "").strip('"')
        if told and told != found:
            raise DamagedDownload(
                f"{self._name}: {self.size} bytes came with SHA-256 {found} instead of {told}"
            )
        return found
