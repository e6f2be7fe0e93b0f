"""Sets of wheels: immutable folders that runs import from, each there for as long as it is used.

Below the worker's wheel folder lie

- ``wheels/<key>``: each wheel unpacked once,
- ``sets/<digest of the members>``: what runs import from; its files are links to those of its wheels,
- ``tmp/<anything>``: what is being made; it is renamed into its place as a whole.

Several workers may share the folder.
"""

from __future__ import annotations

import filecmp
import hashlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

from pyoco_server.model.run import RunWheel
from pyoco_server.model.wheel import StoredWheel
from pyoco_server.worker.held_folder import HeldFolder, hold, make_held, sweep
from pyoco_server.worker.wheel_install import is_want_of_room

# Byte code and scripts are of one interpreter.
_PYTHON: Final = (
    f"{sys.implementation.cache_tag}-{hashlib.sha256(sys.executable.encode()).hexdigest()[:8]}"
)

_SHOWN_CHARACTERS: Final = 60


@dataclass(frozen=True)
class WheelSet:
    """Wheels that belong together. Its folder stays while any object of it is referred to.

    Equal ones are in one and the same folder.

    Attributes:
        digest: Names the set; equal digests are equal members.
        wheels: The members, by name.
        folder: Where they can be imported from; None for the set without members.
    """

    digest: str
    wheels: tuple[RunWheel, ...] = field(compare=False)
    folder: HeldFolder | None

    @property
    def import_paths(self) -> tuple[str, ...]:
        """What to put on the import path."""
        return () if self.folder is None else (str(self.folder.path),)


NO_WHEELS: Final = WheelSet("", (), None)


@dataclass(frozen=True)
class WheelSets:
    """What runs import from now: the shared wheels, and for tenants that have some, theirs too.

    Equal ones hold the same wheels in the same folders.

    Attributes:
        shared: The set of the shared wheels.
        of_tenants: The sets of tenants that have wheels of their own; the shared ones are in them.
    """

    shared: WheelSet
    of_tenants: Mapping[str, WheelSet]

    def of(self, tenant_id: str | None) -> WheelSet:
        """The set of a tenant's runs."""
        return self.shared if tenant_id is None else self.of_tenants.get(tenant_id, self.shared)


NO_SETS: Final = WheelSets(NO_WHEELS, {})


class Clash(Exception):
    """A wheel cannot be in a set with those before it, such as for different files of one name.

    Args:
        loser: The one that is to be left out.
    """

    def __init__(self, loser: StoredWheel, reason: str) -> None:
        super().__init__(reason)
        self.loser = loser


class WheelFolder:
    """Makes and removes sets. Its methods block; each may run in a thread of its own.

    Args:
        root: The worker's wheel folder; made when missing.
    """

    def __init__(self, root: Path) -> None:
        self._wheels = root / "wheels"
        self._sets = root / "sets"
        self._tmp = root / "tmp"

    def find(self, wheel: StoredWheel) -> HeldFolder | None:
        """Where a wheel is unpacked, if it is."""
        return hold(self._wheels / _key(wheel))

    def scratch(self) -> HeldFolder:
        """A folder to work in; whoever asks for it removes it.

        Raises:
            OSError: It cannot be made.
        """
        return make_held(self._tmp)

    def keep(self, unpacked: Path, wheel: StoredWheel) -> HeldFolder:
        """Put a wheel that was unpacked in a working folder in its place, or find it there.

        Raises:
            OSError: It cannot be put there.
        """
        return self._put_in_place(unpacked, self._wheels / _key(wheel))

    def assemble(self, members: Sequence[tuple[StoredWheel, HeldFolder]]) -> WheelSet:
        """Make the set of these wheels, or find it made.

        Raises:
            Clash: Two of them cannot be in one folder.
            OSError: There is no room for it.
        """
        if not members:
            return NO_WHEELS
        # Where files clash the later one is left out: never what all tenants share, for a tenant's own.
        ordered = sorted(members, key=lambda m: (m[0].tenant_id is not None, m[0].name.text))
        wheels = tuple(
            RunWheel(name=wheel.name.package, version=str(wheel.name.version), sha256=wheel.sha256)
            for wheel, _ in ordered
        )
        lines = [_PYTHON, *(f"{wheel.name.text} {wheel.sha256}" for wheel, _ in ordered)]
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        place = self._sets / digest
        folder = hold(place)
        if folder is None:
            scratch = self.scratch()
            try:
                target = scratch.path / "set"
                target.mkdir()
                _link(ordered, target)
                folder = self._put_in_place(target, place)
            finally:
                scratch.remove()
        return WheelSet(digest, wheels, folder)

    def clean_up(self, keep: Iterable[StoredWheel]) -> None:
        """Remove sets and left-overs that nobody uses, and wheels that are not in ``keep`` either."""
        sweep(self._sets)
        sweep(self._tmp)
        sweep(self._wheels, frozenset(map(_key, keep)))

    def _put_in_place(self, made: Path, place: Path) -> HeldFolder:
        place.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                made.rename(place)
            except OSError:
                # Another worker was faster, or the rename itself is impossible.
                if not place.is_dir():
                    raise
            folder = hold(place)
            if folder is not None:
                return folder
            if not made.is_dir():
                raise FileNotFoundError(f"{place} was removed while it was made")


def _key(wheel: StoredWheel) -> str:
    # The name is for people; a whole one would leave no room for the rest.
    return f"{wheel.name.package[:_SHOWN_CHARACTERS]}-{wheel.sha256}-{_PYTHON}"


def _link(members: Sequence[tuple[StoredWheel, HeldFolder]], target: Path) -> None:
    owners: dict[str, StoredWheel] = {}
    for wheel, folder in members:
        try:
            _link_one(wheel, folder.path, target, owners)
        except (Clash, FileNotFoundError):  # somebody else removes them
            raise
        except Exception as error:
            if is_want_of_room(error):
                raise
            raise Clash(wheel, f"it cannot be in a set with the others: {error}") from None


def _link_one(wheel: StoredWheel, root: Path, target: Path, owners: dict[str, StoredWheel]) -> None:
    for path in _files(root):
        source, link = root / path, target / path
        if path in owners:
            # Byte code is that of the file beside it; it is never the same twice.
            if "__pycache__" not in link.parts and not filecmp.cmp(source, link, shallow=False):
                winner = owners[path].name.text
                raise Clash(wheel, f"its file {path!r} is another than that of {winner}")
            continue
        owners[path] = wheel
        link.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, link)
        except FileExistsError:
            raise  # a folder of another wheel
        except OSError:  # too many links, or a file system without
            shutil.copy2(source, link)


def _files(root: Path) -> Iterator[str]:
    for folder, _, names in os.walk(root, onerror=_refuse):
        for name in sorted(names):
            yield str((Path(folder) / name).relative_to(root))


def _refuse(error: OSError) -> NoReturn:
    """For `os.walk`, which takes what cannot be read for empty."""
    raise error
