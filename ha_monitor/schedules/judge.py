"""Judges schedules: the outcome of each due time, the state of each schedule, and which beats are silent. A function of
what is known and stored, so it does not matter how often it is called, or by which instance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from ha_monitor.schedules.beats import silent_beats
from ha_monitor.schedules.doubling import is_doubled
from ha_monitor.schedules.matching import match
from ha_monitor.schedules.model import (
    SETTLING_TIME,
    Definition,
    Evidence,
    History,
    Judged,
    Judgement,
    LastKnown,
    Occurrence,
    Run,
    Runs,
    ScheduleState,
    Source,
)
from ha_monitor.schedules.timetable import timetable_of
from ha_monitor.schedules.track import Track

_FAILED = {"FAILURE", "REJECTED", "REVOKED"}
_WAITS = {"UNKNOWN", "SENT", "RECEIVED"}
_NOTHING = Runs(())
_ALL_READ = LastKnown()
_BAD = {ScheduleState.FAILED, ScheduleState.OVERRAN}


def judge(
    definitions: Sequence[Definition],
    histories: Mapping[str, History],
    runs: Mapping[str, Runs],
    evidence: Evidence,
    last_known: LastKnown = _ALL_READ,
) -> Judged:
    """Judge all schedules whose runs are known.

    :param histories: by schedule name, from the last judgements; those of other names are ignored.
    :param runs: by task name: the newest runs, including those seen before, so that their ends are seen.
    :param last_known: says which schedules are not among the definitions, because their runs were not read.
    """
    at = min(evidence.now, evidence.certain_until)
    tracks: dict[str, Track] = {}
    judgements: dict[str, Judgement] = {}
    for one in definitions:
        history = histories.get(one.name) or History(one.name, "", "", 0.0)
        try:
            if one.problem or not one.is_enabled:
                raise ValueError(one.problem)
            tracks[one.name] = Track(one, timetable_of(one.timetable, one.zone), history, at)
        except ValueError as error:
            judgements[one.name] = _not_watched(one, history, str(error))
    not_seen: list[str] = []
    by_task: dict[str, list[Track]] = {}
    for track in tracks.values():
        by_task.setdefault(track.definition.task, []).append(track)
    for task, group in by_task.items():
        found = runs.get(task, _NOTHING)
        match(group, found.runs, at)
        for track in group:
            before = _not_known(track)
            judgements[track.definition.name] = _judgement(track, evidence, at, found)
            if _not_known(track) > before:
                not_seen.append(track.definition.name)
    ordered, beats = silent_beats([judgements[one.name] for one in definitions], last_known, at)
    return Judged(ordered, beats, not_seen, is_whole=not last_known.unread)


def _not_known(track: Track) -> int:
    """The number of due times of which nothing is known."""
    return [one.state for one in track.occurrences].count(ScheduleState.NOT_KNOWN)


def _not_watched(definition: Definition, history: History, problem: str) -> Judgement:
    """The judgement of a schedule that is disabled, or whose due times are not known: it starts afresh when that
    changes.
    """
    kept = replace(history, timetable="", zone="", next_due=None, missed=0, missed_since=None)
    state = ScheduleState.NOT_KNOWN if problem or definition.problem else ScheduleState.PAUSED
    return Judgement(definition, state, kept, why=problem, last=_last(history.occurrences))


def _judgement(track: Track, evidence: Evidence, at: float, runs: Runs) -> Judgement:
    before, newly = track.history, 0
    for place, one in enumerate(track.occurrences):
        if one.state is not ScheduleState.WAITING and (one.run is None or one.run.is_over):
            continue  # its outcome is final
        state = _outcome(track, one, evidence, at, runs)
        newly += state is ScheduleState.MISSED and one.state is not ScheduleState.MISSED
        if state is not one.state:
            track.occurrences[place] = replace(one, state=state)
    history = track.kept(at)
    states = [one.state for one in track.occurrences if one.due >= track.since]
    missed = _missed(states)
    if missed and states[0] is ScheduleState.MISSED and _reach(states) == len(states):
        # It has been missed for longer than due times are kept.
        newly += track.passed_by
        missed = max(missed, before.missed + newly)
    since = None
    if missed:
        first = len(track.occurrences) - _reach(states)
        since = before.missed_since if before.missed and before.missed_since else track.occurrences[first].due
    history = replace(history, missed=missed, missed_since=since, missed_total=before.missed_total + newly)
    doubled = track.definition.source is not Source.LEARNED and is_doubled(track, at)
    state, decided = _state(track, doubled=doubled)
    last = _last(track.occurrences)
    return Judgement(
        track.definition,
        state,
        history,
        why=_why(track, state, evidence),
        since=since if state is ScheduleState.MISSED else decided.due if decided is not None else None,
        last=last,
        is_doubled=doubled,
        period=track.period(last.due if last is not None else at),
    )


def _outcome(track: Track, one: Occurrence, evidence: Evidence, at: float, runs: Runs) -> ScheduleState:
    if one.run is not None:
        return _outcome_of(track, one, one.run, at)
    deadline = track.deadline(one.due)
    if at < deadline:
        return ScheduleState.WAITING
    # For an interval, the preceding run counts as well: beat may have restarted while the monitor was not listening.
    begin = one.due - (track.early(one.due) if track.is_absolute else track.period(one.due) or 0.0)
    first = one.due if track.is_absolute else begin
    unseen = first < evidence.known_since or any(since < deadline and begin < until for since, until in evidence.gaps)
    unsettled = track.definition.is_disputed or one.due < track.since + SETTLING_TIME
    # Somebody calls it by hand, and no event says when it was sent: it may have been beat's run, sent on time, that
    # waited.
    mixed = track.is_called_by_hand and any(run.sent is None for run in one.again)
    # A run at other times than the learned ones is not a miss.
    moved = track.definition.source is Source.LEARNED and _has_run_since(track, begin)
    if unseen or unsettled or mixed or moved or runs.complete_since > begin:
        return ScheduleState.NOT_KNOWN
    return ScheduleState.MISSED


def _has_run_since(track: Track, begin: float) -> bool:
    return any((run.at or 0.0) > begin for one in track.occurrences for run in one.again)


def _outcome_of(track: Track, one: Occurrence, run: Run, at: float) -> ScheduleState:
    definition = track.definition
    expires, sent = definition.expires, run.at
    state = ScheduleState.ON_TIME
    # The time of some ends is not known.
    ended = run.ended if run.is_over else at
    expired = expires is not None and sent is not None and (run.ended or at) >= sent + expires
    if run.is_expired or (expired and (run.state == "REVOKED" or (run.state in _WAITS and run.started is None))):
        state = ScheduleState.SKIPPED
    elif run.state in _FAILED or run.is_orphaned:
        state = ScheduleState.FAILED
    elif definition.must_end_within is not None and (ended or 0.0) > one.due + definition.must_end_within:
        state = ScheduleState.OVERRAN
    elif sent is not None and sent > track.deadline(one.due):
        state = ScheduleState.LATE
    return state


def _reach(states: Sequence[ScheduleState]) -> int:
    """Number of due times from the first missed one since the last run up to the latest; 0 if none was missed."""
    reach = 0
    for place, state in enumerate(reversed(states), 1):
        if state is ScheduleState.MISSED:
            reach = place
        elif state not in (ScheduleState.WAITING, ScheduleState.NOT_KNOWN):
            break
    return reach


def _missed(states: Sequence[ScheduleState]) -> int:
    """How many due times were missed since the last run."""
    reach = _reach(states)
    return sum(state is ScheduleState.MISSED for state in states[-reach:]) if reach else 0


def _state(track: Track, *, doubled: bool) -> tuple[ScheduleState, Occurrence | None]:
    """The state, and the due time that decides it."""
    unknown: Occurrence | None = None
    running: Occurrence | None = None
    for one in reversed(track.occurrences):
        if one.due < track.since or one.state is ScheduleState.WAITING:
            continue
        if one.state is ScheduleState.MISSED:
            return one.state, one
        if one.state is ScheduleState.NOT_KNOWN:
            unknown = unknown or one
            continue
        if unknown is not None:
            break
        if one.state is ScheduleState.ON_TIME and one.run is not None and not one.run.is_over and running is None:
            # It has not failed so far, so the run before it decides.
            running = one
            continue
        decides = running if running is not None and one.state not in _BAD else one
        return (ScheduleState.DOUBLED if doubled and decides.state not in _BAD else decides.state), decides
    if unknown is not None:
        return ScheduleState.NOT_KNOWN, unknown
    if running is not None:
        return (ScheduleState.DOUBLED if doubled else running.state), running
    return ScheduleState.WAITING, None


def _last(occurrences: Sequence[Occurrence]) -> Occurrence | None:
    return next((one for one in reversed(occurrences) if one.run is not None), None)


def _why(track: Track, state: ScheduleState, evidence: Evidence) -> str:
    if state is not ScheduleState.NOT_KNOWN:
        return ""
    latest = next((one for one in reversed(track.occurrences) if one.state is state), None)
    if track.definition.is_disputed:
        return track.definition.differs
    if latest is not None and latest.due < track.since + SETTLING_TIME:
        return "it was still new, and beat may not have known it yet"
    if latest is not None and latest.due < evidence.known_since:
        return "the monitor did not consume then"
    if track.is_called_by_hand:
        return "the task is also called by hand, and no event says which run beat sent"
    is_moved = track.definition.source is Source.LEARNED and any(one.again for one in track.occurrences[-2:])
    return "it runs at other times than before" if is_moved else "events of that time are missing"
