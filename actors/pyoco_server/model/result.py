"""What the tasks of a run returned, as it can be read: in the run's snapshot, or kept beside it."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

FOLDER: Final = ".pyoco-results"
"""Where they wait to be kept, below the working folder of the run."""

MEDIA_TYPE: Final = "application/json"


class ResultNote(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a task's record tells of its result where ``output`` is not all of it."""

    size_bytes: int
    """Of its JSON."""
    value: Any = msgspec.UNSET
    """The result, with the documented forms of values beyond JSON; unset where it is too large for that."""
    cut: str | None = None
    """Why the result is not all that the task returned."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A result that is too large for its record."""

    task: str
    size_bytes: int
    """Of its JSON."""
    sha256_hex: str | None = None
    """Of the same; None where it was not kept."""
    media_type: str = MEDIA_TYPE
    cut: str | None = None
    """Why it is not all that the task returned."""
    refused: str | None = None
    """Why it was not kept."""


def file_name(task: str) -> str:
    """What a file with the result of a task is called, whatever the task is."""
    return hashlib.sha256(task.encode("utf-8", "surrogatepass")).hexdigest()


def kept_name(task: str) -> str:
    """The name of a kept result among the artifacts of its attempt, none of which begins so."""
    return f"/{file_name(task)}"
