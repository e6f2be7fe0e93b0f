"""What a backup says of itself."""

from __future__ import annotations

from typing import Any, Final

import msgspec

FORMAT: Final = 1
"""Rises when an older version could not restore a newer one's backup."""

MANIFEST: Final = "manifest.json"
LATE_JOBS: Final = "late-jobs.jsonl"


class BackupFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the backup."""

    file: str
    bytes: int
    sha256: str
    """In hex."""


class StreamPart(BackupFile, frozen=True, kw_only=True):
    """A stream, bucket or object store."""

    stream: str
    config: dict[str, Any]
    state: msgspec.Raw
    """As the server wrote it; it wants it back so."""
    messages: int
    last_seq: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The last file that is written: a backup without it is none."""

    format: int = FORMAT
    version: str
    """Of the pyoco-server that made it."""
    nats_version: str
    created_at: float
    """When its last stream had been read, in unix seconds."""
    work_stream: str
    runs_bucket: str
    names: dict[str, str] = {}
    """What the settings called streams and buckets, by variable."""
    streams: list[StreamPart]
    """In the order in which they were taken."""
    late_jobs: BackupFile
    """Jobs that were queued while the streams were taken."""
    late_job_count: int

    @property
    def parts(self) -> list[BackupFile]:
        """All files but the manifest itself."""
        return [*self.streams, self.late_jobs]


class LateJob(msgspec.Struct, frozen=True, kw_only=True):
    """A message of the work queue."""

    subject: str
    headers: dict[str, str]
    data: bytes
    """In base64, in the file."""
