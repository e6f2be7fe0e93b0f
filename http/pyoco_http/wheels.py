"""The wheel registry over HTTP."""

from __future__ import annotations

import base64
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
from quart import Blueprint, Response, request

from pyoco_http.access import Access, access, principal
from pyoco_http.bodies import FORM_BYTES, body_limit
from pyoco_http.downloads import download
from pyoco_http.problems import Problem, Problems, answer_with
from pyoco_http.uploads import FileTooLarge, Upload, spooled_upload
from pyoco_server.backend import Backend
from pyoco_server.gateway.wheel_registry import NewWheel, PackageTaken, RegistryFull, Requester
from pyoco_server.model.api_key import Role
from pyoco_server.model.errors import ErrorId
from pyoco_server.model.wheel import (
    InvalidWheelName,
    InvalidWheelTags,
    StoredWheel,
    WheelVersionConflict,
    parse_wheel_name,
    parse_worker_tags,
)
from pyoco_server.model.wheel_archive import BadWheel
from pyoco_server.model.wheel_history import WheelSource, newest
from pyoco_server.store.wheels import WheelNotFound

_FLAGS = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


def wheels_blueprint(backend: Backend) -> Blueprint:
    """The routes below ``/wheels``."""
    blueprint = Blueprint("wheels", __name__, url_prefix="/wheels")
    settings = backend.settings
    answer_with(blueprint, _PROBLEMS)

    @blueprint.get("")
    @access(Access.READ)
    async def list_wheels() -> list[dict[str, Any]]:
        state = await backend.wheels.state()
        by = _requester()
        return [
            _view(found.wheel, backend.wheels.bucket)
            for found in state.wheels
            if by.sees(found.wheel)
        ]

    @blueprint.post("")
    @access(Access.OPERATE)
    @body_limit(settings.wheel_max_bytes + FORM_BYTES, detail="wheel too large")
    async def upload() -> dict[str, Any]:
        folder = Path(settings.state_dir) / "uploads"
        async with spooled_upload(
            "wheel", folder, settings.wheel_max_bytes, fields=("tags", "replace", "shared")
        ) as spooled:
            stored = await backend.wheel_registry.upload(_new_wheel(spooled))
        return _view(stored, backend.wheels.bucket)

    @blueprint.get("/history")
    @access(Access.READ)
    async def history() -> list[dict[str, Any]]:
        limit = _limit(request.args.get("limit"))
        name = (request.args.get("wheel_name") or "").strip() or None
        if name is not None:
            name = parse_wheel_name(name).text
        action = (request.args.get("action") or "").strip().lower() or None
        if action not in {None, "upload", "delete"}:
            raise Problem(
                422,
                "invalid action",
                ErrorId.INVALID_INPUT,
                field="action",
                reason="takes upload or delete",
            )
        by = principal()
        events = [
            event
            for event in await backend.wheels.history()
            if event.owner_tenant_id is None or by.sees(event.owner_tenant_id)
        ]
        found = newest(events, limit=limit, wheel_name=name, action=action)
        return [msgspec.to_builtins(event) for event in found]

    @blueprint.get("/<name>")
    @access(Access.READ)
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
    async def delete(name: str) -> dict[str, Any]:
        await backend.wheel_registry.delete(name, _requester())
        return {"name": name, "deleted": True}

    return blueprint


def _new_wheel(spooled: Upload) -> NewWheel:
    shared = _flag(spooled, "shared", default=False)
    by = _requester()
    if shared and not by.manages_shared:
        raise Problem(
            403,
            f"api key lacks the role {Role.ADMIN.value}",
            ErrorId.NOT_ALLOWED,
            role=Role.ADMIN.value,
            reason="a wheel that all tenants share is uploaded by an admin",
        )
    return NewWheel(
        name=parse_wheel_name(spooled.filename or ""),
        file=spooled.file,
        size_bytes=spooled.size_bytes,
        sha256=spooled.sha256,
        content_type=(spooled.content_type or "application/octet-stream")[:200],
        tags=parse_worker_tags(spooled.fields.get("tags", "")),
        shared=shared,
        replace=_flag(spooled, "replace", default=True),
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


def _view(wheel: StoredWheel, bucket: str) -> dict[str, Any]:
    digest = base64.urlsafe_b64encode(bytes.fromhex(wheel.sha256)).decode()
    return {
        "name": wheel.name.text,
        "size_bytes": wheel.size_bytes,
        "digest": f"SHA-256={digest}",
        "sha256_b64": digest,
        "sha256_hex": wheel.sha256,
        "mtime": wheel.mtime,
        "nuid": wheel.nuid,
        "bucket": bucket,
        "tags": list(wheel.tags),
        "package": wheel.name.package,
        "version": str(wheel.name.version),
        "tenant_id": wheel.tenant_id,
    }


def _flag(spooled: Upload, name: str, *, default: bool) -> bool:
    text = spooled.fields.get(name, "").strip().lower()
    if not text:
        return default
    if text not in _FLAGS:
        raise Problem(
            422, f"invalid {name}", ErrorId.INVALID_INPUT, field=name, reason="takes true or false"
        )
    return _FLAGS[text]


def _limit(text: str | None) -> int:
    number = 100 if not text else int(text) if text.isdecimal() and len(text) < 9 else 0
    if not 1 <= number <= 500:
        raise Problem(
            422, "invalid limit", ErrorId.INVALID_INPUT, field="limit", reason="takes 1 to 500"
        )
    return number


# How what the registry refuses is answered.
_PROBLEMS: Final[Problems] = {
    InvalidWheelName: lambda error: _refused(error, error.detail, field="wheel"),
    InvalidWheelTags: lambda error: _refused(error, "invalid wheel tags", field="tags"),
    BadWheel: lambda error: _refused(error, "invalid wheel archive", field="wheel"),
    FileTooLarge: lambda _: Problem(413, "wheel too large", ErrorId.INVALID_INPUT),
    RegistryFull: lambda error: Problem(
        413, "wheel registry full", ErrorId.INVALID_INPUT, reason=str(error)
    ),
    WheelVersionConflict: lambda error: Problem(
        409, error.detail, error.error_id, latest_version=str(error.latest)
    ),
    PackageTaken: lambda error: Problem(
        409, "wheel package name is taken", ErrorId.WHEEL_VERSION_CONFLICT, reason=str(error)
    ),
    WheelNotFound: lambda error: Problem(
        404, "wheel not found", ErrorId.WHEEL_NOT_FOUND, name=error.name
    ),
}


def _refused(error: Exception, detail: str, *, field: str) -> Problem:
    return Problem(422, detail, ErrorId.INVALID_INPUT, reason=str(error), field=field)
