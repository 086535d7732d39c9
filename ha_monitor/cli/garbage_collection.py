"""How often Python's garbage collector searches for cycles."""

from __future__ import annotations

import gc

COMMAND_THRESHOLD = 100_000
"""New objects before a search: more than a command that asks once creates."""
SERVICE_THRESHOLD = 10_000
"""The same for long-running processes: more than one batch holds at once; few of those are part of a cycle."""


def set_command_threshold() -> None:
    """At the start: otherwise Python would search all imported objects repeatedly, a tenth of a short command."""
    gc.set_threshold(COMMAND_THRESHOLD)


def set_service_threshold() -> None:
    """In long-running processes, once imports are done: imported objects stay, so they need not be searched."""
    gc.freeze()
    gc.set_threshold(SERVICE_THRESHOLD)


def freeze_at_exit() -> None:
    """At the end: otherwise Python would search everything twice more, another tenth; the system frees it anyway."""
    gc.freeze()
