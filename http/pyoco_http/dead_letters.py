"""Dead letters over HTTP: list, look, send again, drop; and running a run again."""

from __future__ import annotations

from functools import partial
from typing import Final

import msgspec
from quart import Blueprint, Response, request

from pyoco_http.access import Access, access, person, principal, run_seen
from pyoco_http.bodies import read_json, read_nothing
from pyoco_http.call import asked, json_body
from pyoco_http.operation import IDEMPOTENCY_KEY, described
from pyoco_http.problems import Problem, Problems, answer_with, because, invalid
from pyoco_http.submissions import key_of_call, replayed, times_told, timing_of
from pyoco_server.api.dead_letters import (
    DeadLetterDropped,
    DeadLetterItem,
    DeadLetterPage,
    DeadLettersQuery,
)
from pyoco_server.api.submissions import Submitted
from pyoco_server.api.times import RetryBody
from pyoco_server.backend import Backend
from pyoco_server.gateway.dead_letter_desk import LetterFilter, LetterNotFound, NotRepeatable
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.job import check_tag
from pyoco_server.model.json_text import NestedTooDeeply
from pyoco_server.store.dead_letters import StoredLetter
from pyoco_server.store.threads import read_aside

_NOT_FOUND = {404: "dead letter not found"}


def dead_letters_blueprint(backend: Backend) -> Blueprint:
    """`/dlq` and `POST /runs/{run_id}/retry`."""
    blueprint = Blueprint("dead_letters", __name__)
    answer_with(blueprint, _PROBLEMS)

    @blueprint.get("/dlq")
    @access(Access.READ)
    @described("List dead letters, the newest first", DeadLetterPage, query=DeadLettersQuery)
    async def letters() -> DeadLetterPage:
        query = asked(DeadLettersQuery)
        wanted = LetterFilter(
            tenant_id=principal().tenant_id,
            reason=query.reason or None,
            tag=check_tag(query.tag) if query.tag else None,
            run_id=query.run_id or None,
        )
        page = await backend.dead_letters.page(wanted, before=query.cursor, limit=query.limit)
        cursor = None if page.next_cursor is None else str(page.next_cursor)
        return DeadLetterPage(items=[_item(item) for item in page.items], next_cursor=cursor)

    @blueprint.get("/dlq/<seq>")
    @access(Access.READ)
    @described("Read a dead letter", DeadLetterItem, refusals=_NOT_FOUND)
    async def letter(seq: str) -> DeadLetterItem:
        return _item(await backend.dead_letters.get(_number(seq), principal().tenant_id))

    @blueprint.post("/dlq/<seq>/requeue")
    @access(Access.OPERATE)
    @described(
        "Submit the run of a dead letter again, as a new run",
        Submitted,
        refusals={**_NOT_FOUND, 409: "run cannot be submitted again"},
    )
    async def requeue(seq: str) -> Submitted:
        read_nothing(await request.body)
        run, repeated = await backend.dead_letters.requeue(_number(seq), person())
        return Submitted(run_id=run.run_id, status=run.status, retried_from=repeated)

    @blueprint.delete("/dlq/<seq>")
    @access(Access.OPERATE)
    @described("Drop a dead letter", DeadLetterDropped, refusals=_NOT_FOUND)
    async def drop(seq: str) -> DeadLetterDropped:
        read_nothing(await request.body)
        number = _number(seq)
        await backend.dead_letters.drop(number, principal().tenant_id)
        return DeadLetterDropped(seq=number)

    @blueprint.post("/runs/<run_id>/retry")
    @access(Access.SUBMIT)
    @described(
        "Submit a run that has ended again, as a new run",
        Submitted,
        body=RetryBody,
        body_required=False,
        headers=(IDEMPOTENCY_KEY,),
        refusals={
            404: "run not found",
            409: "run cannot be submitted again",
            422: "idempotency key reused, invalid idempotency key, or params or a time that cannot be",
        },
    )
    async def retry(run_id: str) -> Response:
        await run_seen(backend, run_id)
        raw: bytes = await request.body
        body = await read_aside(len(raw), partial(read_json, raw or b"{}", RetryBody))
        timing = timing_of(body, backend.reads.now())
        try:
            run = await backend.dead_letters.retry(
                run_id,
                person(),
                params=body.params,
                idempotency_key=key_of_call(),
                timing=timing,
            )
        except NestedTooDeeply as error:
            raise invalid("params", str(error)) from None
        again = Submitted(run_id=run.run_id, status=run.status, retry_of=run_id, **times_told(run))
        return json_body(again, *replayed(run)).response()

    return blueprint


_PROBLEMS: Final[Problems] = {
    LetterNotFound: lambda error: Problem(
        404, "dead letter not found", ErrorId.DEAD_LETTER_NOT_FOUND, seq=error.seq
    ),
    NotRepeatable: because(409, "run cannot be submitted again", ErrorId.NOT_REPEATABLE),
}


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18) or int(text) == 0:
        raise LetterNotFound(0)
    return int(text)


def _item(stored: StoredLetter) -> DeadLetterItem:
    return DeadLetterItem(seq=stored.seq, **msgspec.structs.asdict(stored.letter))
