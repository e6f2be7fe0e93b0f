"""The read model beside a dictionary: whatever is written, both answer alike."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from pyoco_server.gateway.read_model import queries
from pyoco_server.gateway.read_model.filters import RunFilter, decode_cursor, encode_cursor
from pyoco_server.gateway.read_model.rows import RunRow
from pyoco_server.gateway.read_model.schema import open_reader
from pyoco_server.gateway.read_model.tally import happenings
from pyoco_server.gateway.read_model.writer import Changes, Writer
from pyoco_server.model.run import RunState
from read_model.rows import FILTERS, IDS, NOW, TENANTS, rows


class ReadModelMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "0.sqlite3"
        self.writer = Writer(self.path)
        self.runs: dict[str, RunRow] = {}
        self.others: set[str] = set()
        self.seq = 0
        self.built = False
        # Behind which revision nothing was removed.
        self.removed_at = 0

    def teardown(self) -> None:
        self.writer.close()
        self.folder.cleanup()

    @initialize(batch=st.lists(rows(), max_size=12), complete=st.booleans())
    def begin(self, batch: list[RunRow], complete: bool) -> None:
        self.write(batch, [], complete, anew=True)

    @rule(batch=st.lists(rows(), max_size=6), gone=st.lists(IDS, max_size=3), merged=st.booleans())
    def change(self, batch: list[RunRow], gone: list[str], merged: bool) -> None:
        self.write(batch, gone, True, merged=merged)

    def write(
        self,
        batch: list[RunRow],
        gone: list[str],
        complete: bool,
        *,
        anew: bool = False,
        merged: bool = False,
    ) -> None:
        parts: list[Changes] = []
        for one in batch:
            self.seq += 1
            part = Changes("bucket", anew and not parts, self.seq, complete=complete)
            part.rows[one.run_id] = replace(one, seq=self.seq)
            parts.append(part)
            self.runs[one.run_id] = part.rows[one.run_id]
            self.others.discard(one.run_id)
        for key in gone:
            self.seq += 1
            part = Changes("bucket", False, self.seq, complete=complete)
            part.others[key] = self.seq
            parts.append(part)
            self.runs.pop(key, None)
            self.others.add(key)
        if not parts:
            parts = [Changes("bucket", anew, self.seq, complete=complete)]
        if merged:
            together = parts[0]
            for part in parts[1:]:
                together.add(part)
            parts = [together]
        for part in parts:
            was_built = self.writer.position.built
            applied = self.writer.apply(part)
            if applied.removed or not was_built:
                self.removed_at = part.seq
            position = applied.position
            assert (position.identity, position.seq) == ("bucket", part.seq)
        self.built = self.built or complete

    @rule(now=st.sampled_from([10.0, 20.0]))
    def expire(self, now: float) -> None:
        removed = self.writer.expire(now).removed
        expired = {
            run_id: one
            for run_id, one in self.runs.items()
            if self.built and one.expires_at is not None and one.expires_at <= now
        }
        assert {one.run_id: one for one in removed} == expired
        for run_id in expired:
            del self.runs[run_id]
            self.removed_at = self.seq

    @rule(lost=st.sets(IDS, max_size=4), age=st.integers(0, 5))
    def reconcile(self, lost: set[str], age: int) -> None:
        seq = self.seq - age
        present = (self.runs.keys() | self.others) - lost
        self.writer.note_present(sorted(present), first=True)
        if self.writer.drop_absent(seq).removed:
            self.removed_at = self.writer.position.seq
        for run_id in lost & self.runs.keys():
            if self.runs[run_id].seq <= seq:
                del self.runs[run_id]
        # The revisions of other keys are not followed here: take the writer's word for them.
        keys = self.writer._db.execute("SELECT key FROM other_keys").fetchall()
        assert {key for (key,) in keys} <= self.others
        self.others = {key for (key,) in keys}

    @rule()
    def reopen(self) -> None:
        self.writer.close()
        self.writer = Writer(self.path)
        if not self.built:  # the first reading begins again
            self.runs, self.others = {}, set()

    @rule(run_filter=FILTERS, limit=st.integers(1, 5))
    def page_through(self, run_filter: RunFilter, limit: int) -> None:
        if not self.built:
            return
        matching = [one for one in self.runs.values() if run_filter.matches(one, NOW)]
        matching.sort(key=lambda one: (one.updated_at, one.run_id), reverse=True)
        found: list[RunRow] = []
        after = None
        db = open_reader(self.path)
        try:
            while part := queries.page(db, run_filter, after, limit, NOW):
                found += part
                place = (part[-1].updated_at, part[-1].run_id)
                after = decode_cursor(encode_cursor(place, run_filter), run_filter)
                assert after == place
            counted = queries.counts(db, run_filter, NOW)
        finally:
            db.close()
        assert found == matching
        assert counted.counts == Counter(one.state(NOW) for one in matching)

    @rule(run_filter=FILTERS, age=st.integers(0, 6))
    def look_back(self, run_filter: RunFilter, age: int) -> None:
        if self.built:
            changed = queries.changed_since(self.writer._db, run_filter, self.seq - age, 100)
            expected = [
                one
                for one in self.runs.values()
                if one.seq > self.seq - age and run_filter.concerns(one)
            ]
            gone = self.removed_at >= self.seq - age
            assert changed == (None if gone else sorted(expected, key=lambda one: one.seq))

    @rule(tenant=st.none() | TENANTS, day=st.integers(1, 3))
    def count_kept(self, tenant: str | None, day: int) -> None:
        mine = [one for one in self.runs.values() if tenant in (None, one.tenant)]
        of_day = Counter(one.status for one in mine if one.day == day)
        totals = queries.totals(self.writer._db, tenant, day, NOW)
        assert totals.today == of_day
        states = Counter(one.state(NOW) for one in mine)
        assert (totals.scheduled, totals.expired) == (
            states[RunState.SCHEDULED],
            states[RunState.EXPIRED],
        )
        assert totals.all == Counter(one.status for one in mine)
        found = queries.minutes(self.writer._db, tenant, 0, 2)
        expected: Counter[tuple[int, str]] = Counter()
        for one in mine:
            for moment, what, _ in happenings(one):
                expected[int(moment // 60) * 60, what] += 1
        names = ("SUBMITTED", "STARTED", "COMPLETED", "FAILED", "CANCELLED")
        told = {(one.start, what): getattr(one, what.lower()) for one in found for what in names}
        told = {key: n for key, n in told.items() if n}
        assert told == {key: n for key, n in expected.items() if key[0] < 180}

    @invariant()
    def nothing_is_left_over(self) -> None:
        db = self.writer._db
        assert self.writer.keys() == len(self.runs) + len(self.others)
        for table in ("counts", "days", "minutes"):
            assert db.execute(f"SELECT count(*) FROM {table} WHERE n <= 0").fetchone() == (0,)
        if self.built:
            # Compares the index of texts with the rows; raises where they differ.
            db.execute("INSERT INTO words (words, rank) VALUES ('integrity-check', 1)")


TestReadModel: Any = ReadModelMachine.TestCase
TestReadModel.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)
