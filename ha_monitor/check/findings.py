"""The findings of a check."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Severity(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    """An instance would run, but not as well or as safely as it should."""
    FAILED = "failed"
    """An instance could not run."""


class Finding(NamedTuple):
    """One line of the output."""

    severity: Severity
    subject: str
    text: str
    lasting: bool = False
    """Whether waiting alone does not help: somebody must correct the configuration, or grant a right."""


def ok(subject: str, text: str) -> Finding:
    return Finding(Severity.OK, subject, text)


def warning(subject: str, text: str) -> Finding:
    return Finding(Severity.WARNING, subject, text)


def failed(subject: str, text: str, *, lasting: bool = False) -> Finding:
    return Finding(Severity.FAILED, subject, text, lasting)
