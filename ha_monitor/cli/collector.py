"""How often Python's garbage collector searches for cycles."""

from __future__ import annotations

import gc

SELDOM = 100_000
"""New objects before a search: more than a command that asks once creates."""
RUNNING = 10_000
"""The same for long-running processes: more than one batch holds at once; few of those are part of a cycle."""


def seldom() -> None:
    """At the start: otherwise Python would search all imported objects repeatedly, a tenth of a short command."""
    gc.set_threshold(SELDOM)


def while_running() -> None:
    """In long-running processes, once imports are done: imported objects stay, so they need not be searched."""
    gc.freeze()
    gc.set_threshold(RUNNING)


def no_more() -> None:
    """At the end: otherwise Python would search everything twice more, another tenth; the system frees it anyway."""
    gc.freeze()
