"""Wheels: what their names say, which version may follow which, and which of them a worker takes."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from pyoco_server.model.api_key import TENANT_ID
from pyoco_server.model.errors import ErrorId, ModelError
from pyoco_server.model.job import TAG
from pyoco_server.model.worker import SkippedWheel

TAGS_HEADER: Final = "x-pyoco-wheel-tags"
"""Header of a wheel object: the tags of the workers that it is for, with commas in between."""

TENANT_HEADER: Final = "x-pyoco-wheel-tenant"
"""Header of a wheel object: whose it is; absent for one that all share."""

SHA256_HEADER: Final = "sha256"
"""Header of a wheel object: its digest in hex."""

UNSUPPORTED_TAGS: Final = "unsupported_wheel_tags"
"""Why a wheel is skipped that is for another Python, ABI or platform."""

MAX_NAME_CHARACTERS: Final = 180
"""How long a file name may be: file systems take 255 bytes, 86 of which a worker needs beside the package."""

# A name is for each combination of its Pythons, ABIs and platforms, of which few characters make very many.
_MOST_TAGS: Final = 1_000
_NAME: Final = re.compile(r"[A-Za-z0-9._+!-]+\.whl")


class InvalidWheelName(ModelError):
    """A file name that no wheel can have; ``detail`` is the contract's sentence."""

    def __init__(self, detail: str, reason: str) -> None:
        super().__init__(reason)
        self.detail = detail


class InvalidWheelTags(ModelError):
    """Tags of workers that are none."""


class WheelVersionConflict(ModelError):
    """A version that may not follow those that the registry has, or had.

    Args:
        detail: The contract's sentence.
        latest: The highest version there ever was.
    """

    error_id = ErrorId.WHEEL_VERSION_CONFLICT

    def __init__(self, detail: str, latest: Version) -> None:
        super().__init__(detail)
        self.detail = detail
        self.latest = latest


@dataclass(frozen=True, slots=True)
class WheelName:
    """A file name of a wheel, taken apart.

    Attributes:
        text: The file name.
        package: The normalised name of the package (PEP 503).
        version: Its version (PEP 440).
        build: The build number, ``()`` where there is none.
        tags: Pythons, ABIs and platforms that it is for.
    """

    text: str
    package: str
    version: Version
    build: tuple[int, str] | tuple[()]
    tags: frozenset[Tag]


@dataclass(frozen=True, slots=True)
class StoredWheel:
    """A wheel of the registry.

    Attributes:
        name: Its file name.
        size_bytes: Its size.
        sha256: Its digest in hex.
        nuid: Which upload of it: the object store's unique id.
        mtime: When it was uploaded, in ISO 8601.
        tags: Workers that it is for; empty for all.
        tenant_id: Whose it is; None for one that all share.
    """

    name: WheelName
    size_bytes: int
    sha256: str
    nuid: str
    mtime: str
    tags: tuple[str, ...] = ()
    tenant_id: str | None = None

    def skipped(self, reason: str) -> SkippedWheel:
        """The entry of a worker's report that says why it does not have this wheel."""
        return SkippedWheel(
            wheel_name=self.name.text,
            package_name=self.name.package,
            package_version=str(self.name.version),
            reason=reason,
        )


def parse_wheel_name(text: str) -> WheelName:
    """Take a file name apart.

    Raises:
        InvalidWheelName: It is none of a wheel.
    """
    text = text.strip()
    if not _NAME.fullmatch(text):
        raise InvalidWheelName(
            "invalid wheel name",
            f"{text[:200]!r}: a wheel's name has A-Z a-z 0-9 . _ + ! - only and ends with .whl",
        )
    if len(text) > MAX_NAME_CHARACTERS:
        raise InvalidWheelName(
            "invalid wheel name",
            f"{text[:80]!r}…: {len(text)} characters; at most {MAX_NAME_CHARACTERS} are taken",
        )
    tags_said = math.prod(part.count(".") + 1 for part in text.removesuffix(".whl").split("-")[-3:])
    if tags_said > _MOST_TAGS:
        raise InvalidWheelName(
            "invalid wheel filename",
            f"{text!r} is for {tags_said} combinations of Python, ABI and platform; at most {_MOST_TAGS} "
            "are taken",
        )
    try:
        package, version, build, tags = parse_wheel_filename(text)
    except InvalidWheelFilename as error:
        raise InvalidWheelName("invalid wheel filename", str(error)) from None
    return WheelName(text, str(package), version, build, tags)


def object_name(file_name: str, tenant_id: str | None) -> str:
    """The name of a wheel's object: ``<tenant>/<file name>``, so that owners are not in each other's way.

    A shared one has its file name alone, as all have for pyoco-server 0.5.1, which passes over the others.
    """
    return file_name if tenant_id is None else f"{tenant_id}/{file_name}"


def parse_object_name(text: str) -> tuple[str | None, WheelName]:
    """Read `object_name`: whose wheel it is, and its file name taken apart.

    Raises:
        InvalidWheelName: It is no wheel's.
    """
    tenant_id, slash, file_name = text.rpartition("/")
    if slash and TENANT_ID.fullmatch(tenant_id) is None:
        raise InvalidWheelName("invalid wheel name", f"{tenant_id[:80]!r} is no tenant")
    return tenant_id if slash else None, parse_wheel_name(file_name)


def parse_worker_tags(text: str) -> tuple[str, ...]:
    """Read a list of worker tags with commas in between; each is named once.

    Raises:
        InvalidWheelTags: One of them cannot be a tag.
    """
    tags = tuple(dict.fromkeys(tag.strip() for tag in text.split(",") if tag.strip()))
    for tag in tags:
        if not TAG.fullmatch(tag):
            raise InvalidWheelTags(f"{tag[:100]!r} is no tag: it takes A-Z a-z 0-9 _ -")
    return tags


def check_rise(new: WheelName, earlier: Iterable[WheelName]) -> None:
    """Make sure that a new version is above all that the registry has or had of its package.

    Args:
        new: What is to be uploaded.
        earlier: Every wheel that is or was there, of whatever package.

    Raises:
        WheelVersionConflict: It is not.
    """
    versions = [other.version for other in earlier if other.package == new.package]
    latest = max(versions, default=None)
    if latest is None or new.version > latest:
        return
    if new.version in versions:
        raise WheelVersionConflict("wheel version already exists; bump version", latest)
    raise WheelVersionConflict("wheel version must be greater than existing latest version", latest)


@dataclass(frozen=True, slots=True)
class Selection:
    """What a worker may take.

    Attributes:
        candidates: Of each package what fits, the one to take first: the newest.
        skipped: What does not fit, and why.
    """

    candidates: Mapping[str, tuple[StoredWheel, ...]]
    skipped: tuple[SkippedWheel, ...]


def select(
    wheels: Iterable[StoredWheel], worker_tags: Iterable[str], supported: Mapping[Tag, int]
) -> Selection:
    """Choose what a worker takes.

    Wheels that are for other workers are not its business; they are left out without a word.

    Args:
        wheels: What the registry has of one owner.
        worker_tags: What the worker takes runs of.
        supported: What its interpreter takes, with 0 for the best.
    """
    tags = frozenset(worker_tags)
    fitting: defaultdict[str, list[StoredWheel]] = defaultdict(list)
    skipped = []
    for wheel in wheels:
        if wheel.tags and tags.isdisjoint(wheel.tags):
            continue
        if supported.keys() & wheel.name.tags:
            fitting[wheel.name.package].append(wheel)
        else:
            skipped.append(wheel.skipped(UNSUPPORTED_TAGS))

    def preference(wheel: StoredWheel) -> tuple[Version, tuple[int, str], int, str]:
        best = min(supported[tag] for tag in supported.keys() & wheel.name.tags)
        return wheel.name.version, wheel.name.build or (-1, ""), -best, wheel.name.text

    return Selection(
        {
            package: tuple(sorted(found, key=preference, reverse=True))
            for package, found in sorted(fitting.items())
        },
        tuple(sorted(skipped, key=lambda wheel: wheel.wheel_name)),
    )
