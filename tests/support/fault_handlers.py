"""Handlers that fail in a known way, and leave a trace of each call. Instances load them by name.

The folder for the traces is `$FAULT_HANDLERS`: a file `calls`, one line a call: handler, event, attempt, what
came of it.
"""

from __future__ import annotations

import itertools
import os
import time
import zlib
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from ha_monitor.events.model import Event
from ha_monitor.handling import on
from ha_monitor.store.record import TaskRecord

ENDS = ("task-succeeded", "task-failed")
SLOW = "deploy-slow"
"""An event of the user's own, with `seconds`."""
VARIABLE = "FAULT_HANDLERS"


def raises(event_id: str, attempt: int) -> bool:
    """Whether `sometimes` raises: one time in ten, the same in every run."""
    return zlib.crc32(f"{event_id}/{attempt}".encode()) % 10 == 0


@on(*ENDS)
def sometimes(event: Event, task: TaskRecord | None) -> None:
    """Raise one time in ten."""
    attempt = _attempt("sometimes", event.id)
    if raises(event.id, attempt):
        _note("sometimes", event.id, attempt, "raised")
        raise RuntimeError(f"no luck with attempt {attempt}")
    _note("sometimes", event.id, attempt, "done")


@on(*ENDS)
def steady(event: Event, task: TaskRecord | None) -> None:
    """Never raise."""
    _note("steady", event.id, _attempt("steady", event.id), "done")


@on("task-revoked")
def hopeless(event: Event, task: TaskRecord | None) -> None:
    """Always raise, with a text that no line can hold."""
    _note("hopeless", event.id, _attempt("hopeless", event.id), "raised")
    raise LookupError("this never works \ud83d")


@on(SLOW)
def slow(event: Event, task: TaskRecord | None) -> None:
    """Take as long as the event says."""
    attempt = _attempt("slow", event.id)
    time.sleep(event.fields["data"]["seconds"])
    _note("slow", event.id, attempt, "done")


class Call(NamedTuple):
    """One call of a handler."""

    handler: str
    event_id: str
    attempt: int
    outcome: str


def calls(folder: Path) -> dict[tuple[str, str], list[Call]]:
    """All calls so far, by handler and event, each in order of the attempts."""
    found: dict[tuple[str, str], list[Call]] = defaultdict(list)
    path = folder / "calls"
    for line in path.read_text().splitlines() if path.exists() else ():
        handler, event_id, attempt, outcome = line.split()
        found[handler, event_id].append(Call(handler, event_id, int(attempt), outcome))
    for one in found.values():
        one.sort(key=lambda call: call.attempt)
    return found


def _attempt(handler: str, event_id: str) -> int:
    # Attempts may be made by different processes: a file that only one of them can create counts for all.
    for number in itertools.count(1):
        try:
            os.close(os.open(f"{os.environ[VARIABLE]}/{handler}-{event_id}-{number}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        return number
    raise AssertionError("unreachable")


def _note(*parts: object) -> None:
    descriptor = os.open(f"{os.environ[VARIABLE]}/calls", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.write(descriptor, (" ".join(map(str, parts)) + "\n").encode())
    os.close(descriptor)
