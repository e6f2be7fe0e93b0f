"""Whether a file is the wheel that its name says, and does nobody harm when it is unpacked.

Follows the binary distribution format
(https://packaging.python.org/specifications/binary-distribution-format/), and refuses what a zip archive
may hold besides: paths that lead elsewhere, links, and far more than its size promises.
"""

from __future__ import annotations

import csv
import errno
import stat
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from email.parser import HeaderParser
from itertools import pairwise
from typing import BinaryIO, Final

from installer.records import InvalidRecordEntry, RecordEntry, parse_record_file
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from pyoco_server.model.errors import ModelError
from pyoco_server.model.wheel import WheelName

_ENCRYPTED: Final = 0x1
_HASHES: Final = frozenset({"sha256", "sha384", "sha512"})
_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_MOST_ENTRIES: Final = 20_000
# Bytes unpacked for each byte of the archive, above so many that any archive may hold.
_MOST_RATIO: Final = 50
_FREE_BYTES: Final = 16 * 1024 * 1024
# Of METADATA, WHEEL and RECORD, and of the archive's directory: each is read as a whole.
_MOST_TEXT_BYTES: Final = 8 * 1024 * 1024
# Of a path, and of each of its parts: what any file system takes, below a folder of the worker's.
_MOST_PATH_BYTES: Final = 1000
_MOST_PART_BYTES: Final = 255


class BadWheel(ModelError):
    """A file that is not the wheel that its name says; the text says why."""


def check_archive(file: BinaryIO, name: WheelName) -> SpecifierSet | None:
    """Check a wheel: its directory, its metadata against its name, and each file against RECORD.

    It reads the whole archive, piece by piece.

    Args:
        file: The archive; it can be sought.
        name: What it is called.

    Returns:
        Which Pythons it says that it is for; None for any.

    Raises:
        BadWheel: Something is wrong with it.
    """
    try:
        with zipfile.ZipFile(_InPieces(file)) as archive:
            return _check(archive, _members(archive), name)
    except BadWheel:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        raise BadWheel(f"not a sound zip archive: {error}") from None
    except OSError as error:
        # Its directory is said to begin before the file does; anything else is the machine's fault.
        if error.errno != errno.EINVAL:
            raise
        raise BadWheel("not a sound zip archive: bytes before its directory are missing") from None


def read_text(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str:
    """Read a text of the archive.

    Of one that is larger than its directory says, zipfile itself unpacks gigabytes before it looks at that.
    """
    with archive.open(info) as stream:
        return stream.read(info.file_size).decode()


class _InPieces:
    """A file of which nothing large is read as a whole, such as a directory of millions of entries."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        if size > _MOST_TEXT_BYTES:
            raise BadWheel(
                f"{size} bytes of it are to be read as a whole; at most {_MOST_TEXT_BYTES} are"
            )
        return self._file.read(size)


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The files of the archive by name; its folders are checked and left out."""
    infos = archive.infolist()
    if len(infos) > _MOST_ENTRIES:
        raise BadWheel(f"{len(infos)} entries; at most {_MOST_ENTRIES} are taken")
    unpacked = sum(info.file_size for info in infos)
    assert archive.fp is not None
    size = archive.fp.seek(0, 2)
    allowed = max(_FREE_BYTES, _MOST_RATIO * size)
    if unpacked > allowed:
        raise BadWheel(
            f"{size} bytes would unpack to {unpacked}; at most {allowed} are taken "
            f"({_MOST_RATIO} for each)"
        )
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        _check_path(info)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
            raise BadWheel(f"{info.filename!r} is a link or a device; only files are taken")
        if info.flag_bits & _ENCRYPTED:
            raise BadWheel(f"{info.filename!r} is encrypted")
        if info.compress_type not in _METHODS:
            raise BadWheel(f"{info.filename!r} is not compressed with deflate")
        if info.is_dir():
            continue
        if info.filename in members:
            raise BadWheel(f"{info.filename!r} is there twice")
        members[info.filename] = info
    for path, following in pairwise(sorted(f"{path}/" for path in members)):
        if following.startswith(path):
            raise BadWheel(f"{path!r} is a file and a folder")
    return members


def _check_path(info: zipfile.ZipInfo) -> None:
    # The name as it stands in the directory: zipfile cuts a copy of it at a null byte.
    path = info.orig_filename
    parts = path.removesuffix("/").split("/")
    if (
        path != info.filename
        or "\\" in path
        or ":" in parts[0]
        or any(part in {"", ".", ".."} for part in parts)
        or any(ord(char) < 0x20 for char in path)
    ):
        raise BadWheel(f"{path[:200]!r} leads out of the wheel, or is no path")
    if len(path.encode()) > _MOST_PATH_BYTES or (
        max(len(part.encode()) for part in parts) > _MOST_PART_BYTES
    ):
        raise BadWheel(
            f"{path[:200]!r} is too long: a name has at most {_MOST_PART_BYTES} bytes, "
            f"a path {_MOST_PATH_BYTES}"
        )


def _check(
    archive: zipfile.ZipFile,
    members: Mapping[str, zipfile.ZipInfo],
    name: WheelName,
) -> SpecifierSet | None:
    folder = _dist_info(members, name)

    def text(part: str) -> str:
        info = members.get(f"{folder}/{part}")
        if info is None:
            raise BadWheel(f"{folder}/{part} is missing")
        if info.file_size > _MOST_TEXT_BYTES:
            raise BadWheel(f"{folder}/{part} has {info.file_size} bytes")
        return read_text(archive, info)

    version = HeaderParser().parsestr(text("WHEEL")).get("Wheel-Version", "")
    if not version.strip().startswith("1."):
        raise BadWheel(f"Wheel-Version is {version!r}; 1.x is taken")
    requires_python = _check_metadata(text("METADATA"), name)
    _check_record(archive, members, folder, text("RECORD"))
    return requires_python


def _dist_info(members: Mapping[str, zipfile.ZipInfo], name: WheelName) -> str:
    tops = {path.split("/", 1)[0] for path in members if "/" in path}
    folders = sorted(top for top in tops if top.endswith(".dist-info"))
    if len(folders) != 1:
        raise BadWheel(f"one .dist-info folder is needed; found {', '.join(folders) or 'none'}")
    package, _, version = folders[0].removesuffix(".dist-info").rpartition("-")
    if not _same(package, version, name):
        raise BadWheel(
            f"its folder {folders[0]!r} is not that of {name.package} {name.version}, as its "
            "file name says"
        )
    return folders[0]


def _check_metadata(text: str, name: WheelName) -> SpecifierSet | None:
    metadata = HeaderParser().parsestr(text)
    package, version = metadata.get("Name", ""), metadata.get("Version", "")
    if not _same(package, version, name):
        raise BadWheel(
            f"METADATA is that of {package} {version}, the file name that of "
            f"{name.package} {name.version}"
        )
    wanted = metadata.get("Requires-Python")
    if wanted is None:
        return None
    try:
        return SpecifierSet(wanted)
    except InvalidSpecifier as error:
        raise BadWheel(f"METADATA Requires-Python: {error}") from None


def _same(package: str, version: str, name: WheelName) -> bool:
    with suppress(InvalidVersion):
        return canonicalize_name(package.strip()) == name.package and (
            Version(version.strip()) == name.version
        )
    return False


def _check_record(
    archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], folder: str, text: str
) -> None:
    unhashed = {f"{folder}/RECORD", f"{folder}/RECORD.jws", f"{folder}/RECORD.p7s"}
    recorded: dict[str, RecordEntry] = {}
    try:
        for elements in parse_record_file(text.splitlines()):
            entry = RecordEntry.from_elements(*elements)
            recorded[entry.path] = entry
    except InvalidRecordEntry as error:
        raise BadWheel(f"RECORD: {'; '.join(error.issues)}") from None
    except csv.Error as error:
        raise BadWheel(f"RECORD: {error}") from None
    if missing := sorted(recorded.keys() - members.keys() - unhashed):
        raise BadWheel(f"RECORD names {missing[0]!r}, which is not there")
    for path, info in members.items():
        if path in unhashed:
            continue
        found = recorded.get(path)
        if found is None or found.hash_ is None:
            raise BadWheel(f"RECORD has no hash of {path!r}")
        if found.hash_.name not in _HASHES:
            raise BadWheel(f"RECORD has a {found.hash_.name} hash of {path!r}; sha256 is needed")
        with archive.open(info) as stream:
            # typing: a ZipExtFile is a binary stream in all but name.
            if not found.validate_stream(stream):  # type: ignore[arg-type]
                raise BadWheel(f"{path!r} does not have the hash or size that RECORD says")
