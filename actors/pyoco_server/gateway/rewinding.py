"""Notices that the storage of NATS went back in time, as when an older copy of it was put back.

The bucket may have been written past since, so that its last sequence tells nothing. But whatever the read
model holds has to be there still, or something newer of the same key.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import structlog

from pyoco_server.gateway.read_model import queries
from pyoco_server.gateway.read_model.model import NotReadable, ReadModel
from pyoco_server.gateway.read_model.queries import SearchTooWide, Sighting
from pyoco_server.jetstream.errors import KeyNotFound
from pyoco_server.jetstream.keyvalue import KeyValue

log = structlog.get_logger(__name__)

_PAGE: Final = 64
# Where so many in a row have changed since, reading the bucket anew costs no more.
_MOST_PAGES: Final = 32
# What a watch and a read tell of one moment differs by less than a microsecond.
_SAME_SECONDS: Final = 1e-4


async def has_history(runs: KeyValue, model: ReadModel, seq: int) -> bool:
    """Whether the bucket has what the read model saw of it, up to revision ``seq``.

    The newest keys are looked up first. One that is as it was seen, by its revision and when it was stored,
    vouches for everything before it; one that has changed since says nothing, and comes again by itself. As
    a rule the first or second look is the last one.

    Raises:
        BridgeError: NATS could not be asked.
    """
    before = seq + 1
    for _ in range(_MOST_PAGES):
        query = partial(queries.sightings, before=before, limit=_PAGE)
        try:
            page = await model.read(query)
        except (NotReadable, SearchTooWide):
            return False
        for known in page:
            verdict = await _still_there(runs, known, seq)
            if verdict is False:
                log.warning("the runs bucket went back in time", run_id=known.key, seen=known.seq)
            if verdict is not None:
                return verdict
        if len(page) < _PAGE:
            return True
        before = page[-1].seq
    return False


async def _still_there(runs: KeyValue, known: Sighting, seq: int) -> bool | None:
    """Whether a key is as it was seen; None where it has changed since."""
    try:
        entry = await runs.get(known.key)
    except KeyNotFound as missing:
        if missing.revision == 0:
            return None if _may_be_gone(known, runs.now()) else False
        revision, stored_at = missing.revision, None
    else:
        revision, stored_at = entry.revision, entry.created
    if revision < known.seq or known.seq < revision <= seq:
        return False
    if revision > known.seq or stored_at is None or known.stored_at is None:
        return None
    return abs(stored_at - known.stored_at) < _SAME_SECONDS


def _may_be_gone(known: Sighting, now: float) -> bool:
    """Whether the key may have gone away by itself: its run has expired, or it was a marker."""
    if known.stored_at is None:
        return True
    return known.expires_at is not None and known.expires_at <= now
