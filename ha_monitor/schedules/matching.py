"""Which run belongs to which due time of which schedule, among all schedules of one task.

Runs and due times are processed in chronological order. A run takes the due time that has just passed, if that has no
run yet. If several entries share the task, the run's arguments may tell which entry it belongs to; otherwise the
entries take turns. A run that takes no due time was called by hand or sent by a second beat; it is kept with the due
time before it.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from ha_monitor.schedules.model import Run, ScheduleState
from ha_monitor.schedules.track import Track


def match(tracks: Sequence[Track], runs: Sequence[Run], until: float) -> None:
    """Match the runs of one task.

    :param tracks: one per schedule of that task.
    :param until: everything sent until then is among the runs; later runs wait for the next look.
    """
    known = {run.task_id: run for run in runs}
    for track in tracks:
        _renew(track, known)
    for track in tracks:
        for one in track.occurrences:
            if one.run is not None:
                known.pop(one.run.task_id, None)
            for run in one.again:
                known.pop(run.task_id, None)
    timed = [(at, task_id, run) for task_id, run in known.items() if (at := run.at) is not None and at <= until]
    for at, _, run in sorted(timed):
        if not run.is_child:
            _take(_candidates(tracks, run), run, at)
    for track in tracks:
        track.advance(until)


def _renew(track: Track, known: dict[str, Run]) -> None:
    """Update the runs that were matched before."""
    for place, one in enumerate(track.occurrences):
        if one.again or (one.run is not None and not one.run.is_over):
            run = one.run and known.get(one.run.task_id, one.run)
            again = tuple(known.get(other.task_id, other) for other in one.again)
            if run != one.run or again != one.again:
                state = one.state if run is None else ScheduleState.WAITING
                track.occurrences[place] = replace(one, run=run, again=again, state=state)


def _candidates(tracks: Sequence[Track], run: Run) -> list[Track]:
    """The schedules that a run may belong to."""
    found = [
        track
        for track in tracks
        if run.queue is None or track.definition.queue is None or run.queue == track.definition.queue
    ]
    same = [track for track in found if run.arguments is not None and track.definition.arguments == run.arguments]
    # Arguments may be computed when the task is sent: that they match no entry proves nothing.
    return same or found


def _take(tracks: list[Track], run: Run, at: float) -> None:
    current = [track for track in tracks if at > track.history.until]
    for track in current:
        track.advance(at)
    offers = [(track, track.offer(run, at)) for track in current]
    if all(due is None for _, due in offers):
        offers = [(track, track.offer_earlier(run, at)) for track in tracks]
    taken = min(((abs(at - due), place) for place, (_, due) in enumerate(offers) if due is not None), default=None)
    if taken is not None:
        track, due = offers[taken[1]]
        if due is not None:
            track.take(run, at, due)
        return
    others = [track for track in current if track.latest is not None]
    others.sort(key=lambda track: (-track.occurrences[-1].due, len(track.occurrences[-1].again)))
    for track in others[:1]:
        track.add_again(run)
