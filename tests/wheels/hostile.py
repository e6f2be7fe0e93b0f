"""Wheels that are wrong, each in its own way, and a word of what is to be said of it."""

from __future__ import annotations

import os
import stat
from functools import cache

from wheels.making import wheel_bytes, with_entry


@cache
def hostile() -> dict[str, tuple[bytes, str]]:
    """Name → (bytes of a would-be ``tasks-1.0-py3-none-any.whl``, part of the reason)."""
    sound = wheel_bytes()
    other = wheel_bytes("other", "1.0")
    folder = "tasks-1.0.dist-info"
    return {
        "sixteen bytes": (os.urandom(16), "not a sound zip"),
        "empty": (b"", "not a sound zip"),
        "truncated": (sound[: len(sound) // 2], "not a sound zip"),
        "beginning cut off": (sound[20:], "not a sound zip"),
        "flipped byte": (_flipped(wheel_bytes(compress=False)), "sound zip|hash or size"),
        "dot dot": (with_entry("../evil.py", 0o644), "leads out"),
        "deep dot dot": (with_entry("a/../../evil.py", 0o644), "leads out"),
        "absolute": (with_entry("/etc/evil.py", 0o644), "leads out"),
        "backslash": (with_entry("..\\evil.py", 0o644), "leads out"),
        "drive": (with_entry("C:/evil.py", 0o644), "leads out"),
        "control character": (with_entry("e\nvil.py", 0o644), "leads out"),
        "symlink": (with_entry("link", stat.S_IFLNK | 0o777, b"/etc/passwd"), "is a link"),
        "device": (with_entry("dev", stat.S_IFCHR | 0o666), "is a link or a device"),
        "zip bomb": (wheel_bytes(files={"zeros.bin": bytes(64 * 1024 * 1024)}), "would unpack"),
        "too many": (wheel_bytes(files={f"m{i}.py": "" for i in range(20_001)}), "entries"),
        "wrong record": (
            wheel_bytes(record=f"tasks.py,sha256=AAAA,3\n{folder}/RECORD,,\n"),
            "hash",
        ),
        "no hash": (wheel_bytes(record=f"tasks.py,,\n{folder}/RECORD,,\n"), "no hash"),
        "huge field of record": (wheel_bytes(record="a" * 131_073 + ",,\n"), "RECORD: field"),
        "weak hash": (_weak(), "md5"),
        "not in record": (wheel_bytes(extra={"sneaked.py": "1"}), "RECORD has no hash"),
        "missing file": (_missing(), "which is not there"),
        "deep folders": (wheel_bytes(files={"d/" * 1200 + "m.py": ""}), "too long"),
        "long name": (wheel_bytes(files={f"{'é' * 128}.txt": ""}), "too long"),
        "file and folder": (wheel_bytes(files={"a": "", "a/b.py": ""}), "is a file and a folder"),
        "other package": (other, "is not that of tasks"),
        "other metadata": (
            wheel_bytes(metadata="Metadata-Version: 2.1\nName: tasks\nVersion: 2.0\n"),
            "METADATA is that of tasks 2.0",
        ),
        "two dist-infos": (wheel_bytes(extra={"b-1.dist-info/METADATA": "x"}), "one .dist-info"),
    }


def _flipped(sound: bytes) -> bytes:
    place = sound.index(b"VERSION")
    return sound[:place] + b"W" + sound[place + 1 :]


def _weak() -> bytes:
    return wheel_bytes(files={"tasks.py": ""}, record="tasks.py,md5=1B2M2Y8AsgTpgAmY7PhCfg,0\n")


def _missing() -> bytes:
    from wheels.making import record_line

    return wheel_bytes(files={}, record=record_line("gone.py", b"x") + "\n")
