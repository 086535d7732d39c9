"""Runs that ended on workers, and tasks that they left, as they are read (`queries.py`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil
from struct import Struct
from typing import NamedTuple

KEPT = 3600
"""Seconds for which they are kept, by minute."""
MAX_ABANDONED = 10_000
"""Tasks that workers may have left, for all workers together."""
MAX_LOST_RUNS = 2000
"""Runs during which a worker was lost, or may have been."""
TEN = 10
"""Minutes that are kept together, as in `lua/worker_runs.lua`."""
_CELLS = Struct(">" + "II" * TEN)


class WorkerRuns(NamedTuple):
    """Runs that ended on a worker in some period."""

    ended: int
    """Runs that succeeded, failed or were retried."""
    failed: int
    """Those that failed."""


class Abandoned(NamedTuple):
    """A task that a worker may have left: open on it when it was lost, or taken by another one."""

    task_id: str
    is_orphaned: bool
    """Whether it was announced as orphaned and no worker has taken it since."""


class LostRun(NamedTuple):
    """A run of a task during which its worker was lost."""

    task_id: str
    worker: str
    started: int
    """In µs since the epoch, by the worker's clock: tells it from other runs of the task."""


def minutes_in(since: float, until: float) -> dict[int, list[int]]:
    """The minutes of a period, by ten minutes: the minutes in each, from 0."""
    found: dict[int, list[int]] = {}
    for minute in range(int(since // 60), ceil(until / 60)):
        found.setdefault(minute // TEN, []).append(minute % TEN)
    return found


def runs_from(raw: Iterable[tuple[bytes | None, Sequence[int]]]) -> WorkerRuns:
    """The sum of stored values; foreign ones are left out.

    :param raw: the stored value of ten minutes, and which of these minutes count.
    """
    ended = failed = 0
    for text, minutes in raw:
        if text is not None and len(text) == _CELLS.size:
            cells = _CELLS.unpack(text)
            ended += sum(cells[2 * minute] for minute in minutes)
            failed += sum(cells[2 * minute + 1] for minute in minutes)
    return WorkerRuns(ended, failed)


def abandoned_by(worker: str, member: bytes) -> str | None:
    """The id of a task that a worker left, from an entry as `lua/index/abandoned.lua` makes it; None if it is another
    worker's.
    """
    length, _, rest = member.partition(b":")
    if not length.isdigit() or len(length) > 9:
        return None
    name, task_id = rest[: int(length)], rest[int(length) :]
    return task_id.decode("utf-8", "replace") if name.decode("utf-8", "replace") == worker else None


def lost_run(member: bytes) -> LostRun | None:
    """A run during which its worker was lost, from an entry as `lua/index/abandoned.lua` makes it; None if the worker
    is not known to have been lost.
    """
    length, _, rest = member.partition(b":")
    if length[:1] != b"!" or not length[1:].isdigit() or len(length) > 9:
        return None
    name, (started, _, task_id) = rest[: int(length[1:])], rest[int(length[1:]) :].partition(b":")
    if not started.isdigit() or len(started) > 18:
        return None
    return LostRun(task_id.decode("utf-8", "replace"), name.decode("utf-8", "replace"), int(started))
