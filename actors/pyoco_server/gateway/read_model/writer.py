"""The writing side of the read model: one transaction for each batch of changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from pyoco_server.gateway.read_model.rows import COLUMNS, RunRow, to_row
from pyoco_server.gateway.read_model.schema import (
    Outdated,
    clear,
    create_indexes,
    get_meta,
    open_file,
    set_meta,
)
from pyoco_server.gateway.read_model.tally import Tally

_NAMES: Final = ", ".join(COLUMNS)
_SELECT: Final = f"SELECT {_NAMES} FROM runs WHERE run_id IN (SELECT value FROM json_each(?))"  # noqa: S608
_UPSERT: Final = (
    f"INSERT INTO runs ({_NAMES}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608
    " ON CONFLICT (run_id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name != "run_id")
)
_WORDS: Final = (
    "SELECT id, run_id, flow, error FROM runs WHERE run_id IN (SELECT value FROM json_each(?))"
)
_FORGET_WORDS: Final = (
    f"INSERT INTO words (words, rowid, run_id, flow, error) SELECT 'delete', * FROM ({_WORDS})"  # noqa: S608
)
_EXPIRED_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True)
class Position:
    """How far the read model is.

    Attributes:
        identity: Which bucket it is a copy of; None for none yet.
        seq: The revision up to which it has everything.
        built: Whether it can be read: the bucket was read to its end once.
    """

    identity: str | None = None
    seq: int = 0
    built: bool = False


@dataclass(slots=True)
class Changes:
    """What is to be written together.

    Attributes:
        anew: Forget everything first.
        identity: Which bucket it comes from.
        seq: With these, everything up to this revision is there.
        rows: New states of runs.
        others: Keys that are no run (any more), with their revisions.
        complete: The bucket has been read to its end.
    """

    identity: str = ""
    anew: bool = False
    seq: int = 0
    rows: dict[str, RunRow] = field(default_factory=dict)
    others: dict[str, int] = field(default_factory=dict)
    complete: bool = False

    def add(self, later: Changes) -> None:
        """Write ``later`` behind these; of each run the newest state only."""
        if later.anew:
            self.rows, self.others = {}, {}
            self.anew, self.complete = True, False
        for key in later.others:
            self.rows.pop(key, None)
        for key in later.rows:
            self.others.pop(key, None)
        self.rows.update(later.rows)
        self.others.update(later.others)
        self.identity, self.seq = later.identity, later.seq
        self.complete |= later.complete

    def __len__(self) -> int:
        return len(self.rows) + len(self.others)


@dataclass(frozen=True, slots=True)
class Applied:
    """What a batch did.

    Attributes:
        position: How far the read model is now.
        changed: The rows it wrote, each with what was there before; none while it was being built.
        removed: The rows it took out, likewise.
    """

    position: Position
    changed: Sequence[tuple[RunRow | None, RunRow]] = ()
    removed: Sequence[RunRow] = ()


class Writer:
    """The one connection that writes; its methods block, and are called by one thread at a time.

    ``position`` is how far the read model is.

    Raises:
        sqlite3.DatabaseError: The file cannot be used (also from each method).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._db = open_file(path)
        except Outdated:
            remove_file(path)
            self._db = open_file(path)
        identity, seq = get_meta(self._db, "identity"), get_meta(self._db, "seq")
        built = get_meta(self._db, "built") is not None
        self.position = Position(None if identity is None else str(identity), int(seq or 0), built)
        if not built:
            self._clear()  # the first reading was interrupted: begin it again

    def _clear(self) -> None:
        clear(self._db)
        self.position = Position()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def keys(self) -> int:
        """How many keys of the bucket it knows of."""
        (runs,) = self._db.execute("SELECT coalesce(sum(n), 0) FROM counts").fetchone()
        (others,) = self._db.execute("SELECT count(*) FROM other_keys").fetchone()
        return int(runs + others)

    def apply(self, changes: Changes) -> Applied:
        """Write a batch, all of it or nothing."""
        if changes.anew:
            self._clear()
        was_built = built = self.position.built
        with self._transaction():
            before = self._replace(changes.rows, changes.others)
            self._note_others(changes)
            if changes.identity != self.position.identity:
                set_meta(self._db, "identity", changes.identity)
            set_meta(self._db, "seq", changes.seq)
            # What was removed before the bucket was read to its end is not known.
            if not was_built or any(key in before for key in changes.others):
                set_meta(self._db, "removed", changes.seq)
        if changes.complete and not built:
            create_indexes(self._db)
            built = True
        self.position = Position(changes.identity, changes.seq, built)
        if not was_built:
            return Applied(self.position)
        return Applied(
            self.position,
            [(before.get(key), row) for key, row in changes.rows.items()],
            [before[key] for key in changes.others if key in before],
        )

    def expire(self, now: float) -> Applied:
        """Take out runs whose time is over, up to a thousand of them."""
        if not self.position.built:
            return Applied(self.position)
        rows = self._db.execute(
            "SELECT run_id FROM runs WHERE expires_at IS NOT NULL AND expires_at <= ? LIMIT ?",
            (now, _EXPIRED_AT_ONCE),
        ).fetchall()
        return self.drop([run_id for (run_id,) in rows])

    def note_present(self, keys: Iterable[str], *, first: bool) -> None:
        """Note keys that the bucket has, for `drop_absent`."""
        if first:
            self._db.execute("DROP TABLE IF EXISTS temp.present")
            self._db.execute("CREATE TEMP TABLE present (key TEXT PRIMARY KEY) WITHOUT ROWID")
        with self._transaction():
            self._db.executemany(
                "INSERT OR IGNORE INTO temp.present VALUES (?)", ((key,) for key in keys)
            )

    def drop_absent(self, seq: int) -> Applied:
        """Take out everything up to revision ``seq`` whose key was not noted."""
        absent = "seq <= ? AND {} NOT IN (SELECT key FROM temp.present)"
        gone = self._db.execute(
            f"SELECT run_id FROM runs WHERE {absent.format('run_id')}",  # noqa: S608
            (seq,),
        ).fetchall()
        dropped = self.drop([run_id for (run_id,) in gone])
        self._db.execute(f"DELETE FROM other_keys WHERE {absent.format('key')}", (seq,))  # noqa: S608
        self._db.execute("DROP TABLE temp.present")
        return dropped

    def drop(self, keys: list[str]) -> Applied:
        """Take out runs."""
        if not keys:
            return Applied(self.position)
        with self._transaction():
            before = self._replace({}, keys)
            if before:
                set_meta(self._db, "removed", self.position.seq)
        return Applied(self.position, removed=list(before.values()))

    def _replace(self, rows: Mapping[str, RunRow], gone: Iterable[str]) -> dict[str, RunRow]:
        """Put rows in and take others out; return those that were there before."""
        found = self._db.execute(_SELECT, (_json([*rows, *gone]),))
        before = {row.run_id: row for row in map(to_row, found)}
        tally = Tally()
        for old in before.values():
            tally.add(old, -1)
        for row in rows.values():
            tally.add(row, 1)
        reworded = [
            key
            for key, old in before.items()
            if (new := rows.get(key)) is None or (old.flow, old.error) != (new.flow, new.error)
        ]
        self._forget_words(reworded)
        self._db.executemany(_UPSERT, map(msgspec.structs.astuple, rows.values()))
        fresh = [key for key in rows if key not in before]
        self._add_words([*fresh, *(key for key in reworded if key in rows)])
        if removed := [key for key in before if key not in rows]:
            self._db.execute(
                "DELETE FROM runs WHERE run_id IN (SELECT value FROM json_each(?))",
                (_json(removed),),
            )
        tally.store(self._db)
        return before

    def _note_others(self, changes: Changes) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO other_keys VALUES (?, ?)", changes.others.items()
        )
        if changes.rows:
            self._db.execute(
                "DELETE FROM other_keys WHERE key IN (SELECT value FROM json_each(?))",
                (_json(list(changes.rows)),),
            )

    def _add_words(self, keys: list[str]) -> None:
        if self.position.built and keys:
            self._db.execute(
                f"INSERT INTO words (rowid, run_id, flow, error) {_WORDS}", (_json(keys),)
            )

    def _forget_words(self, keys: list[str]) -> None:
        # Such an index is told what it held: it keeps no texts of its own.
        if self.position.built and keys:
            self._db.execute(_FORGET_WORDS, (_json(keys),))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:  # whatever it was: half a transaction must not stay
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise


def remove_file(path: Path) -> None:
    """Remove a file of the read model and what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _json(keys: list[str]) -> str:
    return msgspec.json.encode(keys).decode()
