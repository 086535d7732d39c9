"""Workers that started one after the other, as in a rolling deployment: not a problem, but a possible explanation."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ha_monitor.store.results import WorkerState


LOOKBACK = 3600.0
"""A change explains a problem only if it was at most this many seconds before."""
MAX_PAUSE = 300.0
"""Maximum seconds between two successive starts of one wave."""
MIN_STARTED, MIN_SHARE = 2, 0.5
"""How many workers must have started, and which share of all present workers."""
_PRESENT_STATES = ("online", "late", "lost")


class Wave(NamedTuple):
    """Many workers that started one after the other. Times are in seconds since the epoch, by the workers' clocks."""

    started: int
    of: int
    """How many workers are present."""
    since: float
    until: float

    def __str__(self) -> str:
        first, last = (datetime.fromtimestamp(at, UTC).strftime("%H:%M") for at in (self.since, self.until))
        when = f"at {last}" if first == last else f"between {first} and {last}"
        return f"{self.started:,} of {self.of:,} workers started {when} UTC"


def wave_before(workers: Sequence[WorkerState], at: float) -> Wave | None:
    """The latest wave that began at or before a time, and in the hour before it.

    :param at: that time, in seconds since the epoch.
    """
    there = [one for one in workers if one.state in _PRESENT_STATES and one.is_confirmed]
    starts = sorted(one.came for one in there if one.came is not None and at - LOOKBACK <= one.came <= at + MAX_PAUSE)
    waves: list[list[float]] = []
    for start in starts:
        if waves and start - waves[-1][-1] <= MAX_PAUSE:
            waves[-1].append(start)
        else:
            waves.append([start])
    for wave in reversed(waves):
        if wave[0] <= at and len(wave) >= MIN_STARTED and len(wave) >= MIN_SHARE * len(there):
            return Wave(len(wave), len(there), wave[0], wave[-1])
    return None
