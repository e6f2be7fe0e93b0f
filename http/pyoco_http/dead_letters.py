"""Dead letters over HTTP: list, look, send again, drop; and running a run again."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from quart import Blueprint, request

from pyoco_http.access import Access, access, principal
from pyoco_http.call import current_call
from pyoco_http.problems import Problem, Problems, answer_with
from pyoco_http.query import refuse, whole
from pyoco_http.runs import known_id
from pyoco_http.submissions import KEY_HEADER
from pyoco_server.backend import Backend
from pyoco_server.gateway.dead_letter_desk import (
    Asker,
    LetterFilter,
    LetterNotFound,
    NotRepeatable,
    Repeated,
)
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.idempotency import InvalidIdempotencyKey, check_idempotency_key
from pyoco_server.model.job import InvalidTag, check_tag
from pyoco_server.store.letters import StoredLetter

_DEFAULT_LIMIT = 50
_MOST_ITEMS = 200


def dead_letters_blueprint(backend: Backend) -> Blueprint:
    """`/dlq` and `POST /runs/{run_id}/retry`."""
    blueprint = Blueprint("dead_letters", __name__)
    answer_with(blueprint, _PROBLEMS)

    @blueprint.get("/dlq")
    @access(Access.READ)
    async def letters() -> dict[str, Any]:
        wanted = LetterFilter(
            tenant_id=principal().tenant_id,
            reason=request.args.get("reason") or None,
            tag=_tag(),
            run_id=request.args.get("run_id") or None,
        )
        before, limit = whole("cursor", 1), whole("limit", 1, _MOST_ITEMS) or _DEFAULT_LIMIT
        page = await backend.dead_letters.page(wanted, before=before, limit=limit)
        cursor = None if page.next_cursor is None else str(page.next_cursor)
        return {"items": [_view(item) for item in page.items], "next_cursor": cursor}

    @blueprint.get("/dlq/<seq>")
    @access(Access.READ)
    async def letter(seq: str) -> dict[str, Any]:
        return _view(await backend.dead_letters.get(_number(seq), principal().tenant_id))

    @blueprint.post("/dlq/<seq>/requeue")
    @access(Access.OPERATE)
    async def requeue(seq: str) -> dict[str, Any]:
        call = current_call()
        asker = Asker(call.principal.key_id, call.request_id, call.traceparent)
        repeated = await backend.dead_letters.requeue(_number(seq), call.principal.tenant_id, asker)
        return {**_run(repeated), "retried_from": repeated.retry_of}

    @blueprint.delete("/dlq/<seq>")
    @access(Access.OPERATE)
    async def drop(seq: str) -> dict[str, Any]:
        number = _number(seq)
        await backend.dead_letters.drop(number, principal().tenant_id)
        return {"seq": number, "deleted": True}

    @blueprint.post("/runs/<run_id>/retry")
    @access(Access.SUBMIT)
    async def retry(run_id: str) -> dict[str, Any]:
        call = current_call()
        call.see(await backend.get(known_id(run_id)))
        asker = Asker(call.principal.key_id, call.request_id, call.traceparent)
        repeated = await backend.dead_letters.retry(run_id, asker, idempotency_key=_key())
        return {**_run(repeated), "retry_of": repeated.retry_of}

    return blueprint


_PROBLEMS: Final[Problems] = {
    LetterNotFound: lambda error: Problem(
        404, "dead letter not found", ErrorId.DEAD_LETTER_NOT_FOUND, seq=error.seq
    ),
    NotRepeatable: lambda error: Problem(
        409, "run cannot be submitted again", ErrorId.NOT_REPEATABLE, reason=str(error)
    ),
}


def _tag() -> str | None:
    tag = request.args.get("tag")
    if not tag:
        return None
    try:
        return check_tag(tag)
    except InvalidTag as error:
        raise refuse("tag", str(error)) from None


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18) or int(text) == 0:
        raise LetterNotFound(0)
    return int(text)


def _key() -> str | None:
    key = request.headers.get(KEY_HEADER)
    if key is None:
        return None
    try:
        return check_idempotency_key(key)
    except InvalidIdempotencyKey as error:
        raise refuse(KEY_HEADER, str(error)) from None


def _view(stored: StoredLetter) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(stored.letter)
    return {"seq": stored.seq, **document}


def _run(repeated: Repeated) -> dict[str, Any]:
    return {"run_id": repeated.accepted.run_id, "status": repeated.accepted.status}
