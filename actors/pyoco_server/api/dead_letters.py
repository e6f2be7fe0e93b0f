"""Dead letters."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from pyoco_server.api.base import Query, says
from pyoco_server.model.dead_letter import DeadLetter


class DeadLettersQuery(Query, frozen=True, kw_only=True):
    """Which dead letters."""

    reason: Annotated[str, says("Only those for this reason.")] = ""
    tag: Annotated[str, says("Only those of this tag.", pattern=r"^[A-Za-z0-9_-]{0,200}$")] = ""
    run_id: Annotated[str, says("Only those about this run.")] = ""
    cursor: Annotated[int, Meta(ge=1, le=10**18 - 1, description="A next_cursor.")] | None = None
    limit: Annotated[int, Meta(ge=1, le=200, description="How many at most.")] = 50


class DeadLetterItem(DeadLetter, kw_only=True, frozen=True, omit_defaults=True):
    """A dead letter as it is stored."""

    seq: int
    """Its number in the stream."""


class DeadLetterPage(msgspec.Struct, kw_only=True, frozen=True):
    """A page of dead letters, the newest first."""

    items: list[DeadLetterItem]
    next_cursor: str | None


class DeadLetterDropped(msgspec.Struct, kw_only=True, frozen=True):
    """A dead letter that is gone."""

    seq: int
    deleted: bool = True
