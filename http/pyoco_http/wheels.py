"""The wheel registry over HTTP."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from quart import Blueprint, Response, request

from pyoco_http.access import Access, access, need, principal
from pyoco_http.bodies import FORM_BYTES, BodyLimit
from pyoco_http.call import asked
from pyoco_http.downloads import download
from pyoco_http.forms import FileTooLarge, Form, spooled_form
from pyoco_http.operation import BYTES, RANGE, described
from pyoco_http.problems import Problem, Problems, answer_with, because, invalid
from pyoco_server.api.wheels import (
    WheelDeleted,
    WheelForm,
    WheelHistoryQuery,
    WheelItem,
    WheelsQuery,
    wheel_item,
)
from pyoco_server.backend import Backend
from pyoco_server.gateway.wheel_registry import NewWheel, PackageTaken, RegistryFull, Requester
from pyoco_server.model.api_key import Role
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.wheel import (
    InvalidWheelName,
    InvalidWheelTags,
    WheelVersionConflict,
    parse_wheel_name,
    parse_worker_tags,
)
from pyoco_server.model.wheel_archive import BadWheel
from pyoco_server.model.wheel_history import WheelEvent, WheelSource, newest
from pyoco_server.store.wheels import WheelNotFound

_NOT_FOUND = {404: "wheel not found", 422: "invalid wheel name"}


def wheels_blueprint(backend: Backend) -> Blueprint:
    """The routes below ``/wheels``."""
    blueprint = Blueprint("wheels", __name__, url_prefix="/wheels")
    settings = backend.settings
    most_bytes = settings.wheel_max_bytes or sys.maxsize
    answer_with(blueprint, _PROBLEMS)

    @blueprint.get("")
    @access(Access.READ)
    @described("List wheels, by name", list[WheelItem], query=WheelsQuery)
    async def list_wheels() -> list[WheelItem]:
        sees = _sight(asked(WheelsQuery))
        state = await backend.wheels.state()
        return [
            wheel_item(found.wheel, backend.wheels.bucket)
            for found in state.wheels
            if sees(found.wheel.tenant_id)
        ]

    @blueprint.post("")
    @access(Access.OPERATE)
    @described(
        "Upload a wheel",
        WheelItem,
        body=WheelForm,
        limit=BodyLimit(most_bytes + FORM_BYTES, "wheel too large"),
        files={"wheel": "demo-1.0-py3-none-any.whl"},
        refusals={
            409: "wheel version already exists; bump version, or wheel version must be greater than "
            "existing latest version",
            422: "invalid wheel name, invalid wheel filename, or invalid wheel tags",
        },
    )
    async def upload() -> WheelItem:
        folder = Path(settings.state_dir) / "uploads"
        async with spooled_form(WheelForm, folder, most_bytes) as (form, fields):
            stored = await backend.wheel_registry.upload(_new_wheel(form, fields))
        return wheel_item(stored, backend.wheels.bucket)

    @blueprint.get("/history")
    @access(Access.READ)
    @described(
        "What was done to wheels, the newest first", list[WheelEvent], query=WheelHistoryQuery
    )
    async def history() -> list[WheelEvent]:
        query = asked(WheelHistoryQuery)
        wanted = query.wheel_name.strip()
        name = parse_wheel_name(wanted).text if wanted else None
        sees = _sight(query)
        events = [event for event in await backend.wheels.history() if sees(event.owner_tenant_id)]
        return newest(events, limit=query.limit, wheel_name=name, action=query.action)

    @blueprint.get("/<name>")
    @access(Access.READ)
    @described(
        "Download a wheel, or a part of it",
        BYTES,
        headers=(RANGE,),
        refusals={206: "the part that was asked for", 416: "range not satisfiable", **_NOT_FOUND},
        bodies={206: BYTES},
    )
    async def get(name: str) -> Response:
        by = _requester()
        found = await backend.wheels.get(name, by.tenant_id, by.sees)
        return await download(
            partial(backend.wheels.read, found),
            filename=found.wheel.name.text,
            size=found.wheel.size_bytes,
            sha256=found.wheel.sha256,
        )

    @blueprint.delete("/<name>")
    @access(Access.OPERATE)
    @described(
        "Delete a wheel",
        WheelDeleted,
        refusals={**_NOT_FOUND, 409: "wheel package name is taken"},
    )
    async def delete(name: str) -> WheelDeleted:
        await backend.wheel_registry.delete(name, _requester())
        return WheelDeleted(name=name)

    return blueprint


def _sight(query: WheelsQuery) -> Callable[[str | None], bool]:
    """Of which owners the caller is told; None is what all share.

    Raises:
        Problem: It asks for more than its key may see.
    """
    if query.all_tenants:
        need(Role.ADMIN, "wheels of all tenants are listed for an admin")
        return lambda _: True
    by = principal()
    return lambda owner: owner is None or by.sees(owner)


def _new_wheel(spooled: Form, fields: dict[str, Any]) -> NewWheel:
    form = WheelForm(wheel=b"", **fields)
    by = _requester()
    if form.shared:
        need(Role.ADMIN, "a wheel that all tenants share is uploaded by an admin")
    return NewWheel(
        name=parse_wheel_name(spooled.filename or ""),
        file=spooled.file,
        size_bytes=spooled.size_bytes,
        sha256=spooled.sha256,
        content_type=(spooled.content_type or "application/octet-stream")[:200],
        tags=parse_worker_tags(form.tags),
        shared=form.shared,
        replace=form.replace,
        by=by,
    )


def _requester() -> Requester:
    by = principal()
    headers = request.headers
    return Requester(
        tenant_id=by.tenant_id,
        api_key_id=by.key_id,
        manages_shared=Role.ADMIN in by.roles,
        source=WheelSource(
            remote_addr=request.remote_addr,
            x_forwarded_for=headers.get("X-Forwarded-For"),
            x_real_ip=headers.get("X-Real-Ip"),
            user_agent=headers.get("User-Agent"),
            host=headers.get("Host"),
            scheme=request.scheme,
        ),
    )


# How what the registry refuses is answered.
_PROBLEMS: Final[Problems] = {
    InvalidWheelName: lambda error: invalid("wheel", str(error), error.detail),
    InvalidWheelTags: lambda error: invalid("tags", str(error), "invalid wheel tags"),
    BadWheel: lambda error: invalid("wheel", str(error), "invalid wheel archive"),
    FileTooLarge: lambda _: Problem(413, "wheel too large", ErrorId.INVALID_INPUT),
    RegistryFull: because(413, "wheel registry full", ErrorId.INVALID_INPUT),
    WheelVersionConflict: lambda error: Problem(
        409, error.detail, error.error_id, latest_version=str(error.latest)
    ),
    PackageTaken: because(409, "wheel package name is taken", ErrorId.WHEEL_VERSION_CONFLICT),
    WheelNotFound: lambda error: Problem(
        404, "wheel not found", ErrorId.WHEEL_NOT_FOUND, name=error.name
    ),
}
