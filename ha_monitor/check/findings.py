"""What a check found."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Severity(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """It works, but not as well or as safely as it should."""
    FAILED = "failed"
    """An instance could not work."""


class Finding(NamedTuple):
    """One line of the answer."""

    severity: Severity
    subject: str
    text: str


def ok(subject: str, text: str) -> Finding:
    return Finding(Severity.OK, subject, text)


def warning(subject: str, text: str) -> Finding:
    return Finding(Severity.WARNING, subject, text)


def failed(subject: str, text: str) -> Finding:
    return Finding(Severity.FAILED, subject, text)
