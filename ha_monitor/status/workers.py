"""What is shown about a worker, wherever workers are shown."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from ha_monitor.outputs.line import iso_time
from ha_monitor.store.reader import WorkerEntry


class Worker(Struct):
    """One Celery worker."""

    name: str
    silent: float
    state: str
    """online; late: silent for workers.late_after; lost: declared by the leader; offline: it sent worker-offline."""
    active: Any = None
    processed: Any = None
    loadavg: Any = None
    software: str = ""
    skew: float = 0.0
    """Seconds by which its clock is ahead (negative: behind); 0 if it is about right."""
    task_events: bool | None = None
    """Whether it sends task events; null if it has not run a task since an instance has been listening."""
    online: str | None = None
    """When it started; null if no instance received that event."""


def worker_of(entry: WorkerEntry) -> Worker:
    """What the store holds about a worker."""
    fields = entry.heartbeat
    return Worker(
        name=entry.name,
        silent=entry.silent,
        state=entry.state,
        task_events=True if entry.sends else False if entry.unsent else None,
        active=fields.get("active"),
        processed=fields.get("processed"),
        loadavg=fields.get("loadavg"),
        software=" ".join(str(fields[key]) for key in ("sw_ident", "sw_ver") if fields.get(key)),
        skew=entry.skew,
        online=iso_time(entry.online) if entry.online else None,
    )
