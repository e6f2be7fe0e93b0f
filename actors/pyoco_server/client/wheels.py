"""The calls about the wheel registry. Does no I/O."""

from __future__ import annotations

from typing import BinaryIO

from pyoco_server.client.requests import (
    Call,
    Document,
    Upload,
    get,
    get_bytes,
    parse_object,
    parse_objects,
    segment,
)


def list_wheels() -> Call[list[Document]]:
    """``GET /wheels``."""
    return get("/wheels", parse_objects)


def list_wheel_history(
    *, limit: int | None = None, wheel_name: str | None = None, action: str | None = None
) -> Call[list[Document]]:
    """``GET /wheels/history``."""
    return get("/wheels/history", parse_objects, limit=limit, wheel_name=wheel_name, action=action)


def upload_wheel(
    *,
    filename: str,
    data: bytes | BinaryIO,
    replace: bool = True,
    tags: list[str] | None = None,
    shared: bool = False,
) -> Call[Document]:
    """``POST /wheels``; ``data`` may be an open binary file, which is then sent in pieces."""
    form = {"replace": "true" if replace else "false"}
    if tags:
        form["tags"] = ",".join(tag.strip() for tag in tags if tag.strip())
    if shared:
        form["shared"] = "true"
    return Call(
        "POST",
        "/wheels",
        parse_object,
        form=form,
        upload=Upload("wheel", filename, data, "application/octet-stream"),
    )


def get_wheel(wheel_name: str, start: int = 0) -> Call[bytes]:
    """``GET /wheels/{name}``, from a byte on."""
    return get_bytes(f"/wheels/{segment(wheel_name)}", start)


def delete_wheel(wheel_name: str) -> Call[Document]:
    """``DELETE /wheels/{name}``; not repeatable, because a second one does not find it."""
    return Call("DELETE", f"/wheels/{segment(wheel_name)}", parse_object)
