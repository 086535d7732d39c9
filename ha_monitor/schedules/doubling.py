"""Whether two beats send the same schedule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from ha_monitor.schedules.model import Occurrence, Run
from ha_monitor.schedules.track import Track

_UNKNOWN_PRODUCERS_ABSOLUTE, _UNKNOWN_PRODUCERS_PERIOD = 2, 3
"""Due times in a row that must have a second run if the senders are not known: a single one may be an accident."""
_KNOWN_PRODUCERS_ABSOLUTE, _KNOWN_PRODUCERS_PERIOD = 1, 2


def is_doubled(track: Track, at: float) -> bool:
    """Whether each of the latest due times had a second run, from another beat as far as that is known."""
    if not any(one.again for one in track.occurrences[-(_UNKNOWN_PRODUCERS_PERIOD + 1) :]):
        return False
    ran = [one for one in track.occurrences if one.run is not None and one.due >= track.since]
    if (
        ran
        and ran[-1].run is not None
        and at < (ran[-1].run.at or at) + _second_run_within(track, ran[-1])
        and not ran[-1].again
    ):
        # The second run may still come.
        ran.pop()
    if not track.is_absolute:
        known, unknown = _KNOWN_PRODUCERS_PERIOD, _UNKNOWN_PRODUCERS_PERIOD
    else:
        # Somebody who calls it often may do so just when it is due.
        unknown = _UNKNOWN_PRODUCERS_ABSOLUTE
        known = unknown if track.is_called_by_hand else _KNOWN_PRODUCERS_ABSOLUTE
    return _are_doubled(track, ran[-known:], known, needs_producers=True) or _are_doubled(
        track, ran[-unknown:], unknown, needs_producers=False
    )


def _second_run_within(track: Track, one: Occurrence) -> float:
    return track.near(one.due) if track.is_absolute else track.period(one.due) or 0.0


def _are_doubled(track: Track, ran: Sequence[Occurrence], least: int, *, needs_producers: bool) -> bool:
    if len(ran) < least:
        return False
    if track.is_absolute:
        return all(any(True for _ in _second(track, one, needs_producers=needs_producers)) for one in ran)
    # A second beat has its own phase: its runs come just as regularly, between those of the first.
    period = track.period(ran[-1].due) or 0.0
    chains = [[run.at or 0.0 for run in _others(one, needs_producers=needs_producers)] for one in ran]
    tolerance = max(0.5, 0.02 * period)
    return all(
        any(abs(later - earlier - period) <= tolerance for earlier in first for later in second)
        for first, second in pairwise(chains)
    )


def _others(one: Occurrence, *, needs_producers: bool) -> Iterator[Run]:
    """Its further runs, except those that the same producer sent."""
    for run in one.again:
        if one.run is None or run.producer is None or one.run.producer is None:
            if not needs_producers:
                yield run
        elif run.producer != one.run.producer:
            yield run


def _second(track: Track, one: Occurrence, *, needs_producers: bool) -> Iterator[Run]:
    """The further runs that came for the due time itself."""
    between = list(track.between(one))
    beats = track.history.producers
    for run in _others(one, needs_producers=needs_producers):
        both = one.run is not None and one.run.producer in beats and run.producer in beats
        if both or not any(run is other for other in between):
            yield run
