"""The tables of the read model, and how its file is opened."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Final, get_args

from msgspec.structs import FieldInfo, fields

from pyoco_server.gateway.read_model.rows import RunRow
from pyoco_server.model.run import RunStatus

_VERSION: Final = 5
"""Raise it with every change of the tables or of what rows hold: files of another version are rebuilt."""

_CACHE_KIB: Final = 16 * 1024
_READER_CACHE_KIB: Final = 4 * 1024

_SQL_TYPES: Final = {str: "TEXT", RunStatus: "TEXT", int: "INTEGER", float: "REAL"}


def _column(field: FieldInfo) -> str:
    """The column of a field of `RunRow`, which may be NULL where that may be None."""
    kind, *or_none = get_args(field.type) or (field.type,)
    return f"{field.name} {_SQL_TYPES[kind]}{'' if or_none else ' NOT NULL'}"


_TABLES: Final = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, {", ".join(map(_column, fields(RunRow)))}, UNIQUE (run_id)
);
-- Keys of the bucket that are no run: deletion markers and what cannot be read.
CREATE TABLE other_keys (key TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
-- How many runs there are; what lists and metrics count costs the same however many that is.
CREATE TABLE counts (
    tenant TEXT, flow TEXT, tag TEXT, status TEXT, n INTEGER NOT NULL,
    PRIMARY KEY (tenant, flow, tag, status)
) WITHOUT ROWID;
CREATE TABLE days (
    day INTEGER, tenant TEXT, status TEXT, n INTEGER NOT NULL, PRIMARY KEY (day, tenant, status)
) WITHOUT ROWID;
-- What happened in each minute: runs submitted, started (with their waiting times in milliseconds) and ended.
CREATE TABLE minutes (
    minute INTEGER, tenant TEXT, what TEXT, n INTEGER NOT NULL, total_ms INTEGER NOT NULL,
    PRIMARY KEY (minute, tenant, what)
) WITHOUT ROWID;
"""

# Made when a bucket was read for the first time: filling them by the row would take several times as long.
# Each page is read along one of them: equal columns first, then the order of lists.
_INDEXES: Final = """
CREATE INDEX runs_newest ON runs (updated_at, run_id);
CREATE INDEX runs_by_tenant ON runs (tenant, updated_at, run_id);
CREATE INDEX runs_by_status ON runs (tenant, status, updated_at, run_id);
CREATE INDEX runs_by_flow ON runs (tenant, flow, updated_at, run_id);
CREATE INDEX runs_by_tag ON runs (tenant, tag, updated_at, run_id);
CREATE INDEX runs_by_worker ON runs (tenant, worker_id, updated_at, run_id)
    WHERE worker_id IS NOT NULL;
CREATE INDEX runs_by_sha256 ON runs (tenant, sha256, updated_at, run_id) WHERE sha256 IS NOT NULL;
-- What time made of runs: of few, as a rule, so that counting them is no work.
CREATE INDEX runs_scheduled ON runs (due_at, tenant) WHERE due_at IS NOT NULL;
CREATE INDEX runs_expired ON runs (tenant, updated_at, run_id) WHERE expired = 1;
CREATE INDEX runs_late ON runs (tenant, updated_at, run_id) WHERE late > 0;
CREATE INDEX runs_by_schedule ON runs (tenant, schedule_id, updated_at, run_id)
    WHERE schedule_id IS NOT NULL;
CREATE INDEX runs_by_seq ON runs (seq);
CREATE INDEX runs_by_expiry ON runs (expires_at) WHERE expires_at IS NOT NULL;
CREATE VIRTUAL TABLE words USING fts5 (
    run_id, flow, error, content = 'runs', content_rowid = 'id', tokenize = 'trigram',
    detail = 'none', columnsize = 0
);
INSERT INTO words (rowid, run_id, flow, error) SELECT id, run_id, flow, error FROM runs;
-- Fewer, larger merges: with 100,000 runs they are most of what a run costs.
INSERT INTO words (words, rank) VALUES ('automerge', 16);
"""


class Outdated(Exception):
    """The file holds something else than this version's tables."""


def _fingerprint() -> str:
    """What a file has to be made with: the version of the tables, and the time zone of its days."""
    return f"{_VERSION} {time.timezone} {time.altzone} {sqlite3.sqlite_version_info[0]}"


def open_file(path: Path) -> sqlite3.Connection:
    """Open a file for writing, and make its tables where it has none.

    Raises:
        Outdated: It is of another version.
        sqlite3.DatabaseError: It cannot be used.
    """
    db = _connect(str(path), _CACHE_KIB)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        # A crash of the machine may lose the last transactions, which are read from the bucket again.
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA journal_size_limit = 67108864")
        if not db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
            clear(db)
        outdated = get_meta(db, "fingerprint") != _fingerprint()
    except BaseException:  # whatever it was: the file must not stay open
        db.close()
        raise
    if outdated:
        db.close()
        raise Outdated(str(path))
    return db


def open_reader(path: Path) -> sqlite3.Connection:
    """Open a file for reading.

    Raises:
        sqlite3.DatabaseError: It cannot be used.
    """
    db = _connect(f"{path.absolute().as_uri()}?mode=ro", _READER_CACHE_KIB, uri=True)
    db.execute("PRAGMA query_only = ON")
    return db


def clear(db: sqlite3.Connection) -> None:
    """Make empty tables instead of what there is, in one transaction."""
    drops = " ".join(
        f"DROP {kind} IF EXISTS {name};"
        for kind, name in db.execute(
            "SELECT type, name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'words_%'"
            " AND name NOT LIKE 'sqlite_%'"
        )
    )
    db.executescript(f"BEGIN IMMEDIATE; {drops} {_TABLES} COMMIT;")
    set_meta(db, "fingerprint", _fingerprint())


def create_indexes(db: sqlite3.Connection) -> None:
    """Make what filters and searches need, of all rows at once."""
    db.executescript(f"BEGIN IMMEDIATE; {_INDEXES} COMMIT;")
    set_meta(db, "built", 1)


def get_meta(db: sqlite3.Connection, name: str) -> str | int | None:
    """A fact about the file; None where it is not known."""
    try:
        row = db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    except sqlite3.OperationalError:  # no such table: a file of something else
        return None
    return None if row is None else row[0]


def set_meta(db: sqlite3.Connection, name: str, value: str | int) -> None:
    """Note a fact about the file."""
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


def _connect(name: str, cache_kib: int, *, uri: bool = False) -> sqlite3.Connection:
    # Used by one thread at a time, but not always by the same one.
    db = sqlite3.connect(name, isolation_level=None, check_same_thread=False, uri=uri, timeout=5.0)
    db.execute(f"PRAGMA cache_size = -{cache_kib}")
    db.execute("PRAGMA temp_store = MEMORY")
    return db
