"""What changed in the hour before a moment, and may have to do with what is wrong then: the last deployment that was
marked, and a wave of restarts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ha_monitor.incidents.restarts import WITHIN, wave_before
from ha_monitor.store.incidents import Mark
from ha_monitor.store.results import WorkerState


class Change(NamedTuple):
    """A change. Times are in seconds since the epoch."""

    what: str
    """In words."""
    since: float
    until: float
    says_when: bool = False
    """Whether the words say it."""

    def before(self, at: float) -> str:
        """In words, as it is seen from a later moment."""
        return self.what if self.says_when else f"{self.what}, {(at - self.since) / 60:.0f} min earlier"


def changes_before(marks: Sequence[Mark], workers: Sequence[WorkerState], at: float) -> list[Change]:
    """What changed in the hour before.

    :param marks: the latest deployments, newest first.
    :param at: seconds since the epoch.
    """
    found = []
    mark = next((one for one in marks if one.at <= at), None)
    if mark is not None and at - mark.at <= WITHIN:
        found.append(Change(f"deploy {mark.label}", mark.at, mark.at))
    wave = wave_before(workers, at)
    if wave is not None:
        found.append(Change(str(wave), wave.since, wave.until, says_when=True))
    return found
