"""Submitting runs over HTTP: one of a known flow, one with its flow.yaml, many at once."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import msgspec
import structlog
import trio
from msgspec import UNSET
from quart import Blueprint, Response

from pyoco_http.access import Access, access
from pyoco_http.bodies import read_json
from pyoco_http.call import Answer, Call, Header, current_call, json_body
from pyoco_http.flows import read_flow_file
from pyoco_http.forms import Form, read_form
from pyoco_http.operation import IDEMPOTENCY_KEY, described
from pyoco_http.problems import Problem, invalid, problem_of
from pyoco_http.short_routes import short
from pyoco_server.api.submissions import (
    MAX_BATCH_RUNS,
    BatchAnswer,
    BatchBody,
    BatchItem,
    BatchOutcome,
    FlowForm,
    SubmitBody,
    Submitted,
)
from pyoco_server.api.times import MoveBody
from pyoco_server.backend import Backend
from pyoco_server.gateway.new_run import Accepted, NewRun
from pyoco_server.model.errors import ErrorId, ModelError
from pyoco_server.model.flow.file import FlowFile
from pyoco_server.model.idempotency import InvalidIdempotencyKey, check_idempotency_key
from pyoco_server.model.job import check_tag
from pyoco_server.model.json_text import KeyGivenTwice, NestedTooDeeply, check_keys
from pyoco_server.model.limits import LIMIT_FIELDS, check_limits, limits_in
from pyoco_server.model.run import RunState
from pyoco_server.model.timing import TIMING_FIELDS, Timing, check_timing
from pyoco_server.settings import Settings
from pyoco_server.store.threads import read_aside

_KEY_NAME = IDEMPOTENCY_KEY.name.lower().encode()
_REPLAYED = (b"idempotent-replay", b"true")


def submissions_blueprint(backend: Backend) -> Blueprint:
    """`POST /runs`, `/runs/yaml` and `/runs/batch`."""
    blueprint = Blueprint("submissions", __name__, url_prefix="/runs")
    settings, now = backend.settings, backend.reads.now

    @blueprint.post("")
    @access(Access.SUBMIT)
    @described(
        "Submit a run of a flow that the workers know",
        Submitted,
        body=SubmitBody,
        headers=(IDEMPOTENCY_KEY,),
        refusals={422: "invalid request body, invalid tag, or idempotency key reused"},
        doc="200 only after the snapshot is stored and the job is queued.",
    )
    @short
    async def submit() -> Answer:
        call = current_call()
        run = await read_aside(len(call.body), partial(_read_run, settings, now(), call))
        return _answer(await backend.submit(run))

    @blueprint.post("/yaml")
    @access(Access.SUBMIT)
    @described(
        "Submit a run that brings its flow.yaml",
        Submitted,
        body=FlowForm,
        files={"workflow": "flow.yaml"},
        headers=(IDEMPOTENCY_KEY,),
        refusals={
            422: "invalid workflow yaml, invalid tag, missing flow_name, or idempotency key reused"
        },
        doc="The params go over the file's `flow.defaults`.",
    )
    async def submit_yaml() -> Response:
        form = await read_form(FlowForm)
        size = form.size_bytes + sum(map(len, form.texts.values()))
        run = await read_aside(size, partial(_read_form, settings, now(), current_call(), form))
        return _answer(await backend.submit(run)).response()

    @blueprint.post("/batch")
    @access(Access.SUBMIT)
    @described(
        "Submit many runs at once",
        BatchAnswer,
        body=BatchBody,
        refusals={422: "invalid request body"},
        doc="Each run is accepted or refused by itself; the answer has an item for each, in order. Each may "
        "have an `idempotency_key`; the header of that name is refused.",
    )
    @short
    async def submit_batch() -> Answer:
        read = await trio.to_thread.run_sync(_read_batch, settings, now(), current_call())
        wanted = [run for run in read if isinstance(run, NewRun)]
        outcomes = iter(await backend.submit_all(wanted))
        items = [_item(next(outcomes) if isinstance(run, NewRun) else run) for run in read]
        rejected = sum(item.error is not UNSET for item in items)
        accepted = len(items) - rejected
        return json_body(BatchAnswer(accepted=accepted, rejected=rejected, items=items))

    return blueprint


def _answer(accepted: Accepted) -> Answer:
    structlog.contextvars.bind_contextvars(run_id=accepted.run_id)  # for the access log
    body = Submitted(run_id=accepted.run_id, status=accepted.status, **times_told(accepted))
    return json_body(body, *replayed(accepted))


def replayed(accepted: Accepted) -> tuple[Header, ...]:
    """The header that says that a key was submitted before."""
    return (_REPLAYED,) if accepted.replayed else ()


def times_told(accepted: Accepted) -> dict[str, Any]:
    """What is told of a run that is to start later; nothing of others."""
    if accepted.scheduled_for is None:
        return {}
    return {"state": RunState.SCHEDULED, "scheduled_for": accepted.scheduled_for}


def _read_run(settings: Settings, now: float, call: Call) -> NewRun:
    """Read the run of a JSON body; raises as `_new_run`."""
    body = read_json(call.body, SubmitBody)
    return _new_run(settings, now, call, body, None, _key_sent(call))


def _read_form(settings: Settings, now: float, call: Call, form: Form) -> NewRun:
    """Read the run of a form; raises as `_new_run`."""
    if form.filename is None:
        reason = "send the flow.yaml as the multipart file field 'workflow'"
        raise invalid("workflow", reason, "invalid workflow yaml")
    if form.unknown is not None:
        raise form.unknown
    said: dict[str, Any] = {"flow_name": "", **form.texts}
    said["params"] = _params(form.texts.get("params", ""))
    body = SubmitBody(**said)
    check_tag((body.tag or "").strip() or settings.default_tag)
    form.file.seek(0)
    flow_file = read_flow_file(form.file.read(), settings)
    return _new_run(settings, now, call, body, flow_file, _key_sent(call))


def _read_batch(settings: Settings, now: float, call: Call) -> list[NewRun | Exception]:
    """Read the runs of a batch, in a thread of its own: a thousand flow.yaml files take their time.

    Raises:
        Problem: It is no batch.
        InvalidIdempotencyKey: It has one key for all of its runs.
    """
    if _key_sent(call) is not None:
        raise InvalidIdempotencyKey("a batch takes an idempotency_key for each run, in its body")
    raws = [bytes(raw) for raw in read_json(call.body, BatchBody, keys_checked=True).runs]
    if not 1 <= len(raws) <= MAX_BATCH_RUNS:
        raise Problem(
            422,
            f"a batch takes 1 to {MAX_BATCH_RUNS} runs, not {len(raws)}",
            ErrorId.INVALID_INPUT,
            field="runs",
        )
    # All at once as a rule; which run spoils it, or the batch itself, is asked where one does.
    keys_checked = _each_key_once(call.body)
    if not keys_checked and all(map(_each_key_once, raws)):
        read_json(call.body, BatchBody)
    texts: dict[str, FlowFile] = {}  # most batches run one flow many times

    def read(raw: bytes) -> NewRun:
        item = read_json(raw, BatchItem, keys_checked=keys_checked)
        text, flow_file = item.workflow_yaml, None
        if text is not None:
            flow_file = texts.get(text) or read_flow_file(text.encode(), settings)
            texts[text] = flow_file
        return _new_run(settings, now, call, item, flow_file, item.idempotency_key)

    def read_or_refuse(raw: bytes) -> NewRun | Exception:
        try:
            return read(raw)
        except (Problem, ModelError) as refusal:
            return refusal

    return [read_or_refuse(raw) for raw in raws]


def _each_key_once(raw: bytes) -> bool:
    try:
        check_keys(raw)
    except (KeyGivenTwice, UnicodeDecodeError, RecursionError):
        return False
    return True


def _item(outcome: Accepted | Exception) -> BatchOutcome:
    if not isinstance(outcome, Accepted):
        return BatchOutcome(error=problem_of(outcome).fields())
    replayed = True if outcome.replayed else UNSET
    times = times_told(outcome)
    return BatchOutcome(run_id=outcome.run_id, status=outcome.status, replayed=replayed, **times)


def _new_run(
    settings: Settings,
    now: float,
    call: Call,
    body: SubmitBody,
    flow_file: FlowFile | None,
    key: str | None,
) -> NewRun:
    """What is asked for, checked; the limits of the call go over those of its flow.yaml.

    Raises:
        Problem: Something in it is wrong.
        ModelError: The same.
    """
    flow_name = body.flow_name if flow_file is None else body.flow_name.strip()
    if not flow_name.strip():
        raise Problem(422, "missing flow_name", ErrorId.INVALID_INPUT, field="flow_name")
    tag = check_tag((body.tag or "").strip() or settings.default_tag)
    defaults = {} if flow_file is None else dict(flow_file.defaults)
    limits = check_limits(**{name: getattr(body, name) for name in LIMIT_FIELDS})
    if flow_file is not None:
        limits = limits.over(flow_file.limits)
    try:
        return NewRun(
            flow_name,
            tag,
            tuple(body.tags or [tag]),
            {**defaults, **body.params},
            workflow_yaml=None if flow_file is None else flow_file.text,
            workflow_yaml_sha256=None if flow_file is None else flow_file.sha256,
            workflow_yaml_bytes=None if flow_file is None else flow_file.size_bytes,
            tenant_id=call.principal.tenant_id,
            api_key_id=call.principal.key_id,
            **limits_in(limits),
            idempotency_key=key,
            request_id=call.request_id,
            traceparent=call.traceparent,
            timing=timing_of(body, now),
        )
    except NestedTooDeeply as error:
        raise invalid("params", str(error)) from None


def timing_of(body: MoveBody, now: float, names: Iterable[str] = TIMING_FIELDS) -> Timing:
    """What a body asks of time.

    Raises:
        InvalidField: Something of it cannot be.
    """
    return check_timing(now, **{name: getattr(body, name) for name in names})


def key_of_call() -> str | None:
    """The idempotency key of the call, if it has one.

    Raises:
        InvalidIdempotencyKey: It is none.
    """
    key = _key_sent(current_call())
    return None if key is None else check_idempotency_key(key)


def _key_sent(call: Call) -> str | None:
    """The idempotency key as it was sent; several make a list (RFC 9110, 5.3), which is none."""
    sent = [value.decode("latin-1") for name, value in call.headers if name == _KEY_NAME]
    return ", ".join(sent) if sent else None


def _params(text: str) -> dict[str, Any]:
    """The params of a form.

    Raises:
        Problem: They are no JSON object.
    """
    if not text.strip():
        return {}
    try:
        params: dict[str, Any] = msgspec.json.decode(text, type=dict[str, Any])
        check_keys(text.encode())
    except RecursionError:
        raise invalid("params", str(NestedTooDeeply())) from None
    except KeyGivenTwice as error:
        raise invalid("params", str(error)) from None
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise invalid("params", f"takes a JSON object: {error}") from None
    else:
        return params
