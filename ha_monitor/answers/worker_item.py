"""Workers as JSON, with what `ha-monitor workers` shows of them."""

from __future__ import annotations

from msgspec import Struct, structs

from ha_monitor.query.workers import SeenWorker
from ha_monitor.status.workers import Worker, worker_of

MAX_IDS = 10
"""Ids that are listed per fate."""


class LeftItem(Struct):
    """Tasks that a lost worker had, with the same fate."""

    count: int
    ids: list[str]
    """The first ten."""


class LeftItems(Struct):
    """What became of the tasks that a lost worker had."""

    run_again: LeftItem
    ended: LeftItem
    orphaned: LeftItem
    open: LeftItem
    expired: LeftItem


class WorkerItem(Worker):
    """A worker, and what is known of its runs."""

    rate: float | None = None
    """Runs per second that ended in the last five minutes."""
    failed: int | None = None
    """Runs that failed in the last hour."""
    left: LeftItems | None = None
    """Null if it is not lost, or if it was not asked for by name."""


def worker_item(one: SeenWorker) -> WorkerItem:
    """A worker, for programs."""
    left = None
    if one.left is not None:
        fates = {fate.name.lower(): LeftItem(len(ids), ids[:MAX_IDS]) for fate, ids in one.left.items()}
        left = LeftItems(**fates)
    known = structs.asdict(worker_of(one.entry))
    return WorkerItem(**known, rate=round(one.rate, 6), failed=one.failed, left=left)
