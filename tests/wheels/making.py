"""Wheels to test with: sound ones, and ones that are wrong in a chosen way."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

USAGE = (
    "Tasks for tests. Each of them returns the version of the wheel that it came from, and no more."
)


def file_name(package: str = "tasks", version: str = "1.0", tag: str = "py3-none-any") -> str:
    return f"{package}-{version}-{tag}.whl"


def record_line(path: str, data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
    return f"{path},sha256={digest},{len(data)}"


def wheel_bytes(
    package: str = "tasks",
    version: str = "1.0",
    files: Mapping[str, str | bytes] | None = None,
    *,
    tag: str = "py3-none-any",
    entry_points: str = "",
    metadata: str | None = None,
    record: str | None = None,
    extra: Mapping[str, str | bytes] | None = None,
    compress: bool = True,
) -> bytes:
    """A wheel with ``files``; ``extra`` files are in the archive but not in RECORD."""
    folder = f"{package}-{version}.dist-info"
    inside: dict[str, bytes] = {}
    for path, data in (files if files is not None else versioned(package, version)).items():
        inside[path] = data if isinstance(data, bytes) else data.encode()
    inside[f"{folder}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n".encode()
    )
    inside[f"{folder}/METADATA"] = (
        metadata
        or f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\nSummary: tests\n\n{USAGE}\n"
    ).encode()
    if entry_points:
        inside[f"{folder}/entry_points.txt"] = entry_points.encode()
    lines = [record_line(path, data) for path, data in inside.items()]
    lines.append(f"{folder}/RECORD,,")
    inside[f"{folder}/RECORD"] = (record or "\n".join(lines) + "\n").encode()
    for path, data in (extra or {}).items():
        inside[path] = data if isinstance(data, bytes) else data.encode()
    out = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(out, "w", method) as archive:
        for path, data in inside.items():
            archive.writestr(zipfile.ZipInfo(path, (2024, 1, 1, 0, 0, 0)), data, method)
    return out.getvalue()


def versioned(package: str, version: str) -> dict[str, str]:
    """A module whose task tells its version, looked at twice with time in between."""
    return {
        f"{package}.py": (
            "import importlib\nimport time\n\n"
            f"VERSION = {version!r}\n\n\n"
            "def tell(seconds=0.0):\n"
            f"    import {package}_other\n"
            "    time.sleep(seconds)\n"
            f"    again = importlib.import_module('{package}_late').VERSION\n"
            f"    return [VERSION, {package}_other.VERSION, again]\n"
        ),
        f"{package}_other.py": f"VERSION = {version!r}\n",
        f"{package}_late.py": f"VERSION = {version!r}\n",
    }


def save(folder: Path, data: bytes, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(data)
    return path


def with_bomb() -> bytes:
    """A wheel whose WHEEL unpacks to far more than the directory of the archive says."""
    raw = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(wheel_bytes())) as sound, zipfile.ZipFile(raw, "w") as archive:
        for info in sound.infolist():
            data = sound.read(info)
            if info.filename.endswith("/WHEEL"):
                archive.writestr(info, data + bytes(256 * 1024 * 1024))
                written = archive.getinfo(info.filename)
                written.file_size, written.CRC = len(data), zlib.crc32(data)
            else:
                archive.writestr(info, data)
    return raw.getvalue()


def with_entry(name: str, mode: int, data: bytes = b"x") -> bytes:
    """A wheel with one more archive entry of the given name and Unix mode."""
    raw = io.BytesIO(wheel_bytes())
    with zipfile.ZipFile(raw, "a") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, data)
    return raw.getvalue()
