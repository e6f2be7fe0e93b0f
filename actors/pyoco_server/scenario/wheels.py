"""Wheels of one module, made for a scenario."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile

import httpx

from pyoco_server.scenario.document import ScenarioError
from pyoco_server.scenario.steps import Wheel


def build(wheel: Wheel) -> tuple[str, bytes]:
    """The file name and the bytes of a wheel (PyPA's binary distribution format)."""
    info = f"{wheel.package}-{wheel.version}.dist-info"
    members = {
        f"{wheel.package}.py": wheel.code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {wheel.package}\nVersion: {wheel.version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: pyoco-server\n"
        "Root-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            raw = text.encode()
            digest = base64.urlsafe_b64encode(hashlib.sha256(raw).digest()).rstrip(b"=").decode()
            record += f"{name},sha256={digest},{len(raw)}\n"
            archive.writestr(name, raw)
        archive.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")
    return _file_name(wheel), buffer.getvalue()


async def upload(client: httpx.AsyncClient, url: str, wheel: Wheel) -> None:
    """Upload a wheel.

    Raises:
        ScenarioError: It was refused.
    """
    name, raw = build(wheel)
    answer = await client.post(
        f"{url}/wheels", files={"wheel": (name, raw)}, data={"tags": ",".join(wheel.tags)}
    )
    if answer.status_code != 200:
        raise ScenarioError(f"upload of {name}: {answer.status_code} {answer.text[:500]}")


async def delete(client: httpx.AsyncClient, url: str, wheel: Wheel) -> None:
    """Delete a wheel.

    Raises:
        ScenarioError: It was refused.
    """
    answer = await client.delete(f"{url}/wheels/{_file_name(wheel)}")
    if answer.status_code != 200:
        raise ScenarioError(f"delete of {_file_name(wheel)}: {answer.status_code}")


def _file_name(wheel: Wheel) -> str:
    return f"{wheel.package}-{wheel.version}-py3-none-any.whl"
