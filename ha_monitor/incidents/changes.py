"""Changes shortly before a given time that may explain a problem: marked deployments, and waves of worker restarts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ha_monitor.incidents.restarts import LOOKBACK, wave_before
from ha_monitor.store.incidents import Mark

if TYPE_CHECKING:
    from ha_monitor.store.results import WorkerState


class Change(NamedTuple):
    """One change. Times are in seconds since the epoch."""

    what: str
    """In words."""
    since: float
    until: float
    says_when: bool = False
    """Whether `what` already states the time."""
    mark: Mark | None = None
    """The mark of a deployment; None for a change that nobody marked."""

    @property
    def name(self) -> str:
        """The short name, for where it is clear that a deployment is meant."""
        return self.what if self.mark is None else self.mark.label

    def before(self, at: float) -> str:
        """In words, with how long before the given time it was."""
        return self.what if self.says_when else f"{self.what}, {(at - self.since) / 60:.0f} min earlier"


def changes_before(marks: Sequence[Mark], workers: Sequence[WorkerState], at: float) -> list[Change]:
    """What changed in the hour before a time.

    :param marks: the latest deployments, newest first.
    :param at: that time, in seconds since the epoch.
    """
    mark = next((one for one in marks if one.at <= at and at - one.at <= LOOKBACK), None)
    found = [_deployment(mark)] if mark is not None else []
    return found + _restarts(workers, at)


def new_since(marks: Sequence[Mark], workers: Sequence[WorkerState], first: float) -> Change | None:
    """The change since which something is new: the latest deployment, however long ago, but no earlier one; otherwise a
    wave of restarts in the hour before. None if there was neither.

    :param marks: the latest deployments, newest first.
    :param first: when the new thing first occurred, in seconds since the epoch.
    """
    if marks and marks[0].at <= first:
        return _deployment(marks[0])
    return next(iter(_restarts(workers, first)), None)


def _deployment(mark: Mark) -> Change:
    return Change(f"deploy {mark.label}", mark.at, mark.at, mark=mark)


def _restarts(workers: Sequence[WorkerState], at: float) -> list[Change]:
    wave = wave_before(workers, at)
    return [] if wave is None else [Change(str(wave), wave.since, wave.until, says_when=True)]
