"""What a check found."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """It works, but not as well or as safely as it should."""
    FAILED = "failed"
    """An instance could not work."""


class Finding(NamedTuple):
    """One line of the answer."""

    verdict: Verdict
    subject: str
    text: str


def ok(subject: str, text: str) -> Finding:
    return Finding(Verdict.OK, subject, text)


def warning(subject: str, text: str) -> Finding:
    return Finding(Verdict.WARNING, subject, text)


def failed(subject: str, text: str) -> Finding:
    return Finding(Verdict.FAILED, subject, text)
