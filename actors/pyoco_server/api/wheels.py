"""The wheel registry: its wheels and its history."""

from __future__ import annotations

import base64
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from pyoco_server.api.base import FormBody, Query, says, shaped
from pyoco_server.model.wheel import StoredWheel

WheelAction: TypeAlias = Literal["upload", "delete"]


class WheelsQuery(Query, frozen=True, kw_only=True):
    """Whose wheels."""

    all_tenants: Annotated[bool, says("Those of all tenants; takes an admin's key.")] = False


class WheelHistoryQuery(WheelsQuery, frozen=True, kw_only=True):
    """Which part of the history."""

    limit: Annotated[int, Meta(ge=1, le=500, description="How many at most.")] = 100
    wheel_name: Annotated[str, says("Only of this wheel.", format="wheel-name")] = ""
    action: Annotated[WheelAction | None, says("Only these.")] = None


class WheelForm(FormBody, kw_only=True):
    """The form of `POST /wheels`."""

    wheel: Annotated[bytes, shaped(format="wheel")]
    replace: Annotated[
        bool, says("Kept in the history: versions only rise, so that nothing is replaced.")
    ] = True
    shared: Annotated[
        bool | None,
        says(
            "Whether it is for all tenants. Left out, as by clients of 0.5.1, an admin's is where "
            "its package is shared already."
        ),
    ] = None
    tags: Annotated[str, shaped(format="worker-tags")] = ""


class WheelItem(msgspec.Struct, kw_only=True, frozen=True):
    """A wheel of the registry."""

    name: str
    size_bytes: int
    digest: str
    sha256_b64: str
    sha256_hex: str
    mtime: str | None
    nuid: str | None
    bucket: str
    tags: list[str]
    package: str
    version: str
    tenant_id: str | None


def wheel_item(wheel: StoredWheel, bucket: str) -> WheelItem:
    """Describe a wheel that is stored in a bucket."""
    digest = base64.urlsafe_b64encode(bytes.fromhex(wheel.sha256)).decode()
    return WheelItem(
        name=wheel.name.text,
        size_bytes=wheel.size_bytes,
        digest=f"SHA-256={digest}",
        sha256_b64=digest,
        sha256_hex=wheel.sha256,
        mtime=wheel.mtime,
        nuid=wheel.nuid,
        bucket=bucket,
        tags=list(wheel.tags),
        package=wheel.name.package,
        version=str(wheel.name.version),
        tenant_id=wheel.tenant_id,
    )


class WheelDeleted(msgspec.Struct, kw_only=True, frozen=True):
    """A wheel that is gone."""

    name: str
    deleted: bool = True
