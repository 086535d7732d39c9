"""Events for the instances on hosts: every call gives others, so that no test sees those of the one before."""

from __future__ import annotations

import itertools
import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

from tests.support.recording import Recorded, read_stream, replicate

_small = read_stream("small")
_copies = replicate(_small, 1_000_000, start=time.time())
_clock = itertools.count(1)
IN_A_MESSAGE = 20
"""Events that a worker sends at once, at most 24."""


def fresh_copies(count: int) -> Iterator[Recorded]:
    """So many copies of the small recording (1,381 messages, 681 lines), none of which was given before."""
    return itertools.islice(_copies, count * len(_small))


def fresh_event(kind: str, **fields: Any) -> dict[str, Any]:
    """An event of a worker that exists nowhere."""
    stamp = {"hostname": "tests@nowhere", "utcoffset": 0, "pid": 1, "clock": next(_clock), "timestamp": time.time()}
    return {"type": kind, **stamp, **fields}


def message(*events: dict[str, Any]) -> Recorded:
    """The message in which a worker sends these events."""
    if len(events) == 1:
        return Recorded(events[0]["type"].replace("-", "."), "application/json", "utf-8", json.dumps(events[0]))
    return Recorded("task.multi", "application/json", "utf-8", json.dumps(events))


def failures(count: int) -> Iterator[Recorded]:
    """Tasks that fail at once, each with a traceback, as when a database is away."""
    traceback = "Traceback (most recent call last):\n" + 8 * '  File "/srv/app/tasks.py", line 42, in pay\n    pay(x)\n'
    tasks = IN_A_MESSAGE // 2
    for first in range(0, count, tasks):
        events = []
        for number in range(first, min(count, first + tasks)):
            task = str(uuid.uuid4())
            error = f"OperationalError('no connection for order {number}')"
            events.append(fresh_event("task-received", uuid=task, name="shop.pay", args=f"({number},)", kwargs="{}"))
            events.append(fresh_event("task-failed", uuid=task, exception=error, traceback=f"{traceback}{error}\n"))
        yield message(*events)
