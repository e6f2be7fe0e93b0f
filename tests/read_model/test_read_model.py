"""The file of the read model: opened, shared, damaged, outdated; and how long a query may take."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from operator import methodcaller
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from pyoco_server.gateway.read_model import queries, schema
from pyoco_server.gateway.read_model.filters import (
    InvalidListCursor,
    RunFilter,
    decode_cursor,
    encode_cursor,
)
from pyoco_server.gateway.read_model.model import NotReadable, ReadModel, claimed_file
from pyoco_server.gateway.read_model.queries import SearchTooWide
from pyoco_server.gateway.read_model.rows import RunRow
from pyoco_server.gateway.read_model.writer import Changes, Position, Writer
from pyoco_server.model.run import RunStatus
from read_model.rows import FILTERS, row

CLAIM = """\
import sys
from pathlib import Path
from pyoco_server.gateway.read_model.model import claimed_file

with claimed_file(Path(sys.argv[1])) as path:
    print(path)
"""


def changes(*run_ids: str, complete: bool = True) -> Changes:
    rows = {run_id: row(run_id, seq=index + 1) for index, run_id in enumerate(run_ids)}
    return Changes("bucket", True, len(run_ids), rows, complete=complete)


async def test_a_closed_file_is_found_again(tmp_path: Path) -> None:
    for opened in (None, 2):
        model = ReadModel(tmp_path)
        position = await model.open_writer()
        if opened is None:
            assert position == Position(None, 0, False)
            await model.write(lambda writer: writer.apply(changes("a", "b")))
        else:
            assert position == Position("bucket", 2, True)
            assert await model.write(Writer.keys) == 2
            page = await model.read(lambda db: queries.page(db, RunFilter(), None, 10))
            assert [one.run_id for one in page] == ["b", "a"]
        await model.close()
        with pytest.raises(NotReadable):
            await model.read(lambda db: db.execute("SELECT 1"))


async def test_a_first_reading_that_was_interrupted_begins_again(tmp_path: Path) -> None:
    model = ReadModel(tmp_path)
    await model.open_writer()
    await model.write(lambda writer: writer.apply(changes("a", complete=False)))
    assert await model.open_writer() == Position(None, 0, False)
    await model.close()


@pytest.mark.parametrize("damage", [b"this is no database, however long it is read" * 200, b"x"])
async def test_a_damaged_file_is_built_again(tmp_path: Path, damage: bytes) -> None:
    model = ReadModel(tmp_path)
    await model.open_writer()
    await model.write(lambda writer: writer.apply(changes("a")))
    await model.close()
    (tmp_path / "read_model" / "0.sqlite3").write_bytes(damage)
    await model.open_writer()
    assert await model.write(Writer.keys) == 0
    await model.close()


async def test_damage_that_shows_later_removes_the_file(tmp_path: Path) -> None:
    model = ReadModel(tmp_path)
    await model.open_writer()
    await model.write(lambda writer: writer.apply(changes("a")))

    def find_damage(_: Writer) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    with pytest.raises(sqlite3.DatabaseError):
        await model.write(find_damage)
    assert await model.open_writer() == Position(None, 0, False)
    await model.close()


def break_index(writer: Writer, name: str) -> None:
    """Overwrite the root page of an index of the file."""
    writer._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (size,) = writer._db.execute("PRAGMA page_size").fetchone()
    sql = "SELECT rootpage FROM sqlite_master WHERE name = ?"
    (page,) = writer._db.execute(sql, (name,)).fetchone()
    with writer.path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


async def test_damage_that_a_reader_finds_removes_the_file(tmp_path: Path) -> None:
    model = ReadModel(tmp_path)
    await model.open_writer()
    await model.write(lambda writer: writer.apply(changes("a")))
    # What a query does wrong is no damage.
    for wrong in ("SELECT * FROM nothing", "SELECT ?"):
        with pytest.raises(NotReadable):
            await model.read(methodcaller("execute", wrong))
    await model.write(lambda writer: break_index(writer, "runs_by_tag"))
    by_tag = RunFilter(tenant="", tag="hello")
    with pytest.raises(NotReadable, match="malformed"):
        await model.read(lambda db: queries.page(db, by_tag, None, 10))
    with pytest.raises(sqlite3.DatabaseError, match="malformed"):
        await model.write(Writer.keys)
    assert await model.open_writer() == Position(None, 0, False)
    await model.write(lambda writer: writer.apply(changes("a")))
    assert len(await model.read(lambda db: queries.page(db, by_tag, None, 10))) == 1
    await model.close()


async def test_where_there_is_no_thread_it_waits_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none_left(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    model = ReadModel(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(trio.to_thread, "run_sync", none_left)
        with pytest.raises(sqlite3.OperationalError, match="new thread"):
            await model.open_writer()
    await model.open_writer()
    await model.write(lambda writer: writer.apply(changes("a")))
    with monkeypatch.context() as patch:
        patch.setattr(trio.to_thread, "run_sync", none_left)
        with pytest.raises(sqlite3.OperationalError, match="new thread"):
            await model.write(Writer.keys)
        with pytest.raises(NotReadable, match="new thread"):
            await model.read(lambda db: db.execute("SELECT 1"))
        await model.close()
    assert (await model.open_writer()).built
    await model.close()


class Meddled:
    """A connection; right before one of its statements, another one writes."""

    def __init__(self, db: sqlite3.Connection, number: int, write: Callable[[], Any]) -> None:
        self._db = db
        self._left = number
        self._write = write

    def execute(self, *args: Any) -> sqlite3.Cursor:
        if self._left == 0:
            self._write()
        self._left -= 1
        return self._db.execute(*args)


@pytest.mark.parametrize("number", range(1, 4))
@pytest.mark.parametrize(
    "query",
    [
        lambda db: queries.counts(db, RunFilter(), 0.0),
        lambda db: queries.counts(db, RunFilter(tenant="", worker_id="w"), 0.0),
        lambda db: queries.totals(db, None, 1, 0.0),
    ],
    ids=["counts", "counted by row", "totals"],
)
async def test_what_a_query_tells_is_of_one_moment(
    tmp_path: Path, query: Callable[[sqlite3.Connection], object], number: int
) -> None:
    model = ReadModel(tmp_path)
    await model.open_writer()
    waiting = {"status": RunStatus.PENDING, "attempt": 0, "due_at": 9.0, "worker_id": "w"}

    def wrote(seq: int, **rows: RunRow) -> Callable[[], object]:
        writer = model._writer
        assert writer is not None
        return lambda: writer.apply(Changes("bucket", False, seq, rows, complete=True))

    wrote(2, a=row("a", seq=1, **waiting), b=row("b", seq=2, worker_id="w"))()
    before = await model.read(query)
    meddle = wrote(4, a=row("a", seq=3, worker_id="w"), c=row("c", seq=4, **waiting))
    meddled = cast(Any, lambda db: query(cast(Any, Meddled(db, number, meddle))))
    assert await model.read(meddled) == before
    await model.close()


@pytest.mark.parametrize("what", ["_VERSION", "time zone"])
async def test_a_file_of_another_version_is_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    model = ReadModel(tmp_path)
    await model.open_writer()
    await model.write(lambda writer: writer.apply(changes("a")))
    if what == "_VERSION":
        monkeypatch.setattr(schema, "_VERSION", 999)
    else:
        monkeypatch.setattr("time.timezone", -12345)
    await model.open_writer()
    assert await model.write(Writer.keys) == 0
    await model.close()


def test_gateways_of_one_folder_have_files_of_their_own(tmp_path: Path) -> None:
    with claimed_file(tmp_path) as first, claimed_file(tmp_path) as second:
        assert first != second
        argv = [sys.executable, "-c", CLAIM, str(tmp_path)]
        told = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
        assert Path(told.stdout.strip()) not in (first, second)
    with claimed_file(tmp_path) as again:
        assert again == first


def test_without_a_folder_the_file_is_a_temporary_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder can be here")
    with claimed_file(tmp_path / "file") as path:
        assert path.parent.is_dir()
        assert tmp_path not in path.parents
    assert not path.parent.exists()


async def test_a_query_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    model = ReadModel(tmp_path)
    await model.open_writer()
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"

    def ask(db: sqlite3.Connection) -> None:
        with queries.time_limit(db, 0.05):
            db.execute(endless).fetchone()

    with trio.fail_after(60), pytest.raises(SearchTooWide):
        await model.read(ask)
    assert await model.read(lambda db: db.execute("SELECT 1").fetchone()) == (1,)
    await model.close()


async def test_readers_cannot_write(tmp_path: Path) -> None:
    model = ReadModel(tmp_path)
    await model.open_writer()
    with pytest.raises(NotReadable, match="readonly"):
        await model.read(lambda db: db.execute("DELETE FROM meta"))
    await model.close()


@pytest.mark.parametrize(
    "narrow",
    [
        {},
        {"flow": "main"},
        {"tag": "hello"},
        {"worker_id": "w"},
        {"sha256": "s"},
        {"statuses": ("FAILED",)},
        {"tenant": "", "statuses": ("FAILED", "RUNNING")},
    ],
)
def test_a_page_is_read_along_an_index_and_never_sorted_as_a_whole(
    tmp_path: Path, narrow: dict[str, object]
) -> None:
    writer = Writer(tmp_path / "0.sqlite3")
    writer.apply(changes("a"))
    asked: list[str] = []
    writer._db.set_trace_callback(asked.append)
    queries.page(writer._db, RunFilter(**narrow), (1.0, "x"), 50)  # type: ignore[arg-type]
    writer._db.set_trace_callback(None)
    sql = next(text for text in asked if "ORDER BY" in text)
    plan = [step for *_, step in writer._db.execute(f"EXPLAIN QUERY PLAN {sql}")]
    scans = [step for step in plan if "runs" in step]
    assert scans
    assert all("USING INDEX runs_" in step for step in scans), plan
    if len(scans) == 1:
        assert not any("TEMP B-TREE" in step for step in plan), plan
    writer.close()


@given(st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=50), FILTERS, FILTERS)
def test_cursors_come_back_whole_and_for_their_own_list_only(
    moment: float, run_id: str, mine: RunFilter, other: RunFilter
) -> None:
    cursor = encode_cursor((moment, run_id), mine)
    assert decode_cursor(cursor, mine) == (moment, run_id)
    assert cursor.isascii()
    assert cursor.replace("-", "").replace("_", "").isalnum()
    if other != mine:
        with pytest.raises(InvalidListCursor):
            decode_cursor(cursor, other)


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")))
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidListCursor):
        decode_cursor(text, RunFilter())
