"""Artifacts: the files that a run's tasks saved, as its snapshot lists them."""

from __future__ import annotations

import unicodedata
from typing import Final

import msgspec

from pyoco_server.model.errors import ModelError

FOLDER: Final = "artifacts"
"""Where tasks save them, below the working folder of the run."""

NAME_BYTES: Final = 512
"""The longest name, in bytes of UTF-8."""


class InvalidArtifactName(ModelError):
    """A name under which nothing is kept."""


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was kept."""

    name: str
    """Its path below the folder that tasks save into, with ``/`` in between."""
    size_bytes: int
    sha256_hex: str
    task: str | None = None
    """Which task saved it, where that is known."""


class RefusedArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was not kept, and why."""

    name: str
    reason: str


def check_name(name: str) -> str:
    """Return a name that is harmless wherever it is used as a relative path.

    Raises:
        InvalidArtifactName: It is not.
    """
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidArtifactName("its name is not UTF-8") from None
    if size > NAME_BYTES:
        raise InvalidArtifactName(f"its name has {size} bytes; at most {NAME_BYTES} are taken")
    if name.startswith("/") or any(part in {"", ".", ".."} for part in name.split("/")):
        raise InvalidArtifactName("its name leads out of the folder for artifacts")
    if "\\" in name or any(unicodedata.category(char) == "Cc" for char in name):
        raise InvalidArtifactName("its name has a backslash or a control character")
    return name


def object_name(run_id: str, attempt: int, name: str) -> str:
    """What the object store calls an artifact: each attempt's are its own."""
    return f"{run_id}/{attempt}/{name}"


def parse_object_name(text: str) -> tuple[str, int, str] | None:
    """The run, attempt and name of an object; None for what is no artifact."""
    run_id, _, rest = text.partition("/")
    attempt, _, name = rest.partition("/")
    if not run_id or not name or not attempt.isdecimal():
        return None
    return run_id, int(attempt), name
