"""The form of a backup on disk: one file (a zip archive) or a folder, with the same parts in both.

It is written under another name and gets its own with its last byte, so that one whose making was broken off
is never taken for a backup. API keys' hashes are in it: only its owner can read it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import msgspec

from pyoco_server.operations.manifest import FORMAT, MANIFEST, BackupFile, Manifest

_PIECE_BYTES = 128 * 1024
_PARTIAL = ".partial"


class ArchiveUnusable(Exception):
    """It is no backup, not a whole one, a changed one, or cannot be written; the text says which."""


@dataclass
class PartWriter:
    """A part that is being written; counts and digests what goes in."""

    file: str
    _out: IO[bytes]
    size: int = 0
    _sha256: hashlib._Hash = field(default_factory=hashlib.sha256)

    def write(self, piece: bytes) -> None:
        """Append bytes."""
        self._out.write(piece)
        self._sha256.update(piece)
        self.size += len(piece)

    def done(self) -> BackupFile:
        """What the manifest says of it."""
        return BackupFile(file=self.file, bytes=self.size, sha256=self._sha256.hexdigest())


class Archive(ABC):
    """Parts by name, in a file or a folder."""

    @abstractmethod
    def opened(self, file: str, mode: str) -> IO[bytes]:
        """Open a part, "r" or "w".

        Raises:
            KeyError: There is no such part.
            OSError: It cannot be read or written.
        """

    @contextmanager
    def writing(self, file: str) -> Iterator[PartWriter]:
        """Write a part, one at a time."""
        with self.opened(file, "w") as out:
            yield PartWriter(file, out)

    def pieces(self, file: str) -> Iterator[bytes]:
        """Read a part.

        Raises:
            ArchiveUnusable: It is not there, or cannot be read.
        """
        try:
            with self.opened(file, "r") as source:
                while piece := source.read(_PIECE_BYTES):
                    yield piece
        except KeyError:
            raise ArchiveUnusable(f"the part {file} is missing") from None
        except Exception as error:  # noqa: BLE001 - damaged headers may lead zipfile anywhere
            raise ArchiveUnusable(f"the part {file} cannot be read: {error}") from None

    def manifest(self) -> Manifest:
        """Read what it says of itself.

        Raises:
            ArchiveUnusable: It says nothing, or nothing that this version understands.
        """
        text = b"".join(self.pieces(MANIFEST))
        try:
            manifest = msgspec.json.decode(text, type=Manifest)
        except msgspec.MsgspecError as error:
            raise ArchiveUnusable(f"the part {MANIFEST} is not one: {error}") from None
        if manifest.format > FORMAT:
            raise ArchiveUnusable(
                f"it is of format {manifest.format}, made by pyoco-server {manifest.version}; "
                f"this version reads formats up to {FORMAT}"
            )
        return manifest

    def verify(self, manifest: Manifest) -> None:
        """Read every part and compare it with what the manifest says.

        Raises:
            ArchiveUnusable: A part is missing, cut short or changed.
        """
        for part in manifest.parts:
            size, digest = 0, hashlib.sha256()
            for piece in self.pieces(part.file):
                size += len(piece)
                digest.update(piece)
            if (size, digest.hexdigest()) != (part.bytes, part.sha256):
                raise ArchiveUnusable(
                    f"the part {part.file} is not what was written: {size} bytes with sha256 "
                    f"{digest.hexdigest()}, not {part.bytes} with {part.sha256}"
                )


class _ZipArchive(Archive):
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def opened(self, file: str, mode: str) -> IO[bytes]:
        if mode == "r":
            return self._archive.open(file)
        return self._archive.open(file, "w", force_zip64=True)


class _FolderArchive(Archive):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def opened(self, file: str, mode: str) -> IO[bytes]:
        path = self._folder / file
        if mode == "r":
            if not path.is_file():
                raise KeyError(file)
            return path.open("rb")
        path.parent.mkdir(exist_ok=True)
        return path.open("xb")


@contextmanager
def create_archive(path: Path, *, folder: bool = False) -> Iterator[Archive]:
    """Write a backup; it appears under ``path`` when the block ends well, and not at all otherwise.

    Args:
        path: Where; nothing may be there.
        folder: A folder instead of one file.

    Raises:
        ArchiveUnusable: Something is there, another program writes it, or nothing can be written there.
    """
    path = path.absolute()  # "." has no name
    partial = path.with_name(path.name + _PARTIAL)
    try:
        _check_free(path, folder=folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _make(partial, folder=folder)
        try:
            if folder:
                yield _FolderArchive(partial)
            else:
                with zipfile.ZipFile(partial, "w") as archive:
                    yield _ZipArchive(archive)
            _to_disk(partial)
            _check_free(path, folder=folder)  # it took its time
            partial.replace(path)
        except BaseException:
            _remove(partial)
            raise
        finally:
            os.close(lock)
        _sync(path.parent)
    except OSError as error:
        raise ArchiveUnusable(f"{path} cannot be written: {error}") from None


def _check_free(path: Path, *, folder: bool) -> None:
    if path.exists() and not (folder and path.is_dir() and not any(path.iterdir())):
        raise ArchiveUnusable(f"{path} exists; a backup is never written over another")


def _make(partial: Path, *, folder: bool) -> int:
    """Make a file or folder that nobody else writes or removes; the descriptor that is given holds it."""
    with suppress(FileNotFoundError):
        stale = _lock(partial)  # of a backup that was killed
        try:
            _remove(partial)
        finally:
            os.close(stale)
    if folder:
        partial.mkdir(mode=0o700)
    else:
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    return _lock(partial)


def _lock(partial: Path) -> int:
    descriptor = os.open(partial, os.O_RDONLY if partial.is_dir() else os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Else it was removed, and made anew, by another program in between.
        if os.path.samestat(os.fstat(descriptor), partial.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    raise ArchiveUnusable(f"{partial} is being written by another backup")


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Read a backup.

    Raises:
        ArchiveUnusable: There is none.
    """
    if path.is_dir():
        yield _FolderArchive(path)
        return
    try:
        archive = zipfile.ZipFile(path)
    except OSError as error:
        raise ArchiveUnusable(f"it cannot be read: {error.strerror or error}") from None
    except Exception as error:  # noqa: BLE001 - damaged headers may lead zipfile anywhere
        raise ArchiveUnusable(f"it is no backup, or not a whole one: {error}") from None
    with archive:
        yield _ZipArchive(archive)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    if path.is_dir():
        for each in path.rglob("*"):
            _sync(each)
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
