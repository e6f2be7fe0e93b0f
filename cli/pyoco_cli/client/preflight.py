"""What a wheel should hold before it is uploaded."""

from __future__ import annotations

import configparser
import zipfile
import zlib
from dataclasses import dataclass, field
from email.parser import Parser
from pathlib import Path
from typing import Final

_LEAST_DESCRIPTION: Final = 80
_USAGE_LABELS: Final = frozenset({"documentation", "docs", "doc", "usage"})


@dataclass(slots=True)
class Findings:
    """What is wrong with a wheel, and what only might be."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def note(self, text: str, *, error: bool) -> None:
        """Add a finding."""
        (self.errors if error else self.warnings).append(text)


def check_wheel(path: Path, *, need_entry_points: bool, need_usage: bool) -> Findings:
    """Look into a wheel.

    Args:
        path: The wheel.
        need_entry_points: Whether having none is an error; a warning otherwise.
        need_usage: Whether having no usage text is an error; a warning otherwise.

    Raises:
        OSError: The file cannot be read.
    """
    findings = Findings()
    try:
        with zipfile.ZipFile(path) as archive:
            metadata = _dist_info_text(archive, "METADATA")
            if metadata is None:
                findings.errors.append("missing dist-info/METADATA")
                return findings
            _check_metadata(metadata, findings, need_usage=need_usage)
            _check_entry_points(
                _dist_info_text(archive, "entry_points.txt") or "",
                findings,
                needed=need_entry_points,
            )
    except zipfile.BadZipFile:
        findings.errors.append("wheel file is not a valid zip archive")
    except (zlib.error, EOFError, RuntimeError) as error:  # damaged, cut, or encrypted
        findings.errors.append(f"wheel file cannot be unpacked: {error}")
    return findings


def _dist_info_text(archive: zipfile.ZipFile, name: str) -> str | None:
    suffix = f".dist-info/{name}"
    found = sorted(member for member in archive.namelist() if member.endswith(suffix))
    return archive.read(found[0]).decode("utf-8", "replace") if found else None


def _check_metadata(text: str, findings: Findings, *, need_usage: bool) -> None:
    metadata = Parser().parsestr(text)
    for name in ("Name", "Version"):
        if not str(metadata.get(name) or "").strip():
            findings.errors.append(f"METADATA {name} is missing")
    if not str(metadata.get("Summary") or "").strip():
        findings.warnings.append("METADATA Summary is empty")
    description = str(metadata.get_payload() or "").strip()
    urls = [str(value) for value in metadata.get_all("Project-URL") or []]
    if len(description) >= _LEAST_DESCRIPTION or any(_is_usage_url(url) for url in urls):
        return
    findings.note(
        "usage documentation is missing (need METADATA description>=80 chars or "
        "Project-URL: Documentation,...)"
        if need_usage
        else "usage documentation seems missing",
        error=need_usage,
    )


def _is_usage_url(value: str) -> bool:
    label, _, url = value.partition(",")
    return label.strip().lower() in _USAGE_LABELS and bool(url.strip())


def _check_entry_points(text: str, findings: Findings, *, needed: bool) -> None:
    parser = configparser.ConfigParser(interpolation=None)
    count = 0
    try:
        parser.read_string(text)
        count = sum(len(parser.options(section)) for section in parser.sections())
    except configparser.Error:
        findings.errors.append("dist-info/entry_points.txt format is invalid")
    if not count:
        findings.note(
            "entry_points are missing (dist-info/entry_points.txt)"
            if needed
            else "entry_points are missing",
            error=needed,
        )
