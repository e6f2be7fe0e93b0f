"""What a check found: how bad, what, where, and what to do about it."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Severity(StrEnum):
    """How bad it is."""

    INFO = "info"
    """Worth knowing; nothing has to be done."""
    WARNING = "warning"
    """Something does not work as it should, or soon will not."""
    ERROR = "error"
    """Something does not work, or may be lost."""

    @property
    def exit_code(self) -> int:
        """The exit code of a command that found nothing worse: 0, 1 for a warning, 2 for an error."""
        return {Severity.INFO: 0, Severity.WARNING: 1, Severity.ERROR: 2}[self]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a check found."""

    check: str
    """Which: its group and what it looked for, such as ``resources.missing``."""
    severity: Severity
    what: str
    where: str
    """The server, stream, worker or run that it is about."""
    advice: str
    """What to do."""


class DoctorReport(msgspec.Struct, frozen=True, kw_only=True):
    """All findings, the worst first."""

    findings: list[Finding]
    checked: list[str]
    """The groups that could be looked at."""

    @property
    def worst(self) -> Severity:
        """The worst severity among them; INFO when nothing was found."""
        return self.findings[0].severity if self.findings else Severity.INFO

    @classmethod
    def of(cls, findings: list[Finding], checked: list[str]) -> DoctorReport:
        """Put the findings in order."""
        ordered = sorted(findings, key=lambda found: -found.severity.exit_code)
        return cls(findings=ordered, checked=checked)
