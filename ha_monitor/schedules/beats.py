"""Beats that have fallen silent: one finding instead of one for each of their schedules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from msgspec.structs import replace

from ha_monitor.schedules.model import Judgement, LastKnown, ScheduleState, SilentBeat, Source

_MIN_MISSED = 2
"""Schedules that a silent beat misses at least: a single missed one is that schedule's own problem."""
UNNAMED = "beat"


def silent_beats(
    judgements: Sequence[Judgement], last_known: LastKnown, at: float
) -> tuple[list[Judgement], list[SilentBeat]]:
    """Find the silent beats, and mark each missed schedule with the beat that explains it.

    Learned schedules say nothing about a beat. If an application misses all schedules that were due, its beat is
    silent. Otherwise, where the senders are known, a sender is silent if it misses all of its schedules while another
    sender sends the rest, and did so before.

    A schedule that was not read counts as it was last judged. If it may have run since, nothing is found of its
    application, and what was explained stays so.

    :param at: the time until which everything is known of what was read.
    """
    beats: list[SilentBeat] = []
    explained: dict[str, str] = {}
    uncertain = {one.definition.app for one in last_known.unread if _may_have_run(one, at)}
    defined = [one for one in (*judgements, *last_known.unread) if one.definition.source is not Source.LEARNED]
    for group in _grouped(defined, lambda one: one.definition.app):
        if group[0].definition.app in uncertain:
            explained |= _still_explained(group, last_known.beats)
            continue
        whole = _silent(group)
        for beat in [whole] if whole else _silent_beside_others(group):
            beats.append(beat)
            explained |= dict.fromkeys(beat.schedules, beat.key)
    marked = [
        replace(one, beat=explained[one.definition.name]) if one.definition.name in explained else one
        for one in judgements
    ]
    return marked, beats


def _may_have_run(unread: Judgement, at: float) -> bool:
    """Whether beat may have sent it since it was judged; if it was missed, it counts as missed until it is read."""
    definition, history = unread.definition, unread.history
    if definition.problem or not definition.is_enabled or definition.source is Source.LEARNED:
        return False
    if (history.timetable, history.zone) != (definition.timetable, definition.zone):
        return True
    if unread.state is ScheduleState.MISSED:
        return False
    is_awaited = bool(history.occurrences) and history.occurrences[-1].state is ScheduleState.WAITING
    return is_awaited or (history.next_due is not None and history.next_due <= at)


def _still_explained(group: Iterable[Judgement], beats: Mapping[str, str]) -> dict[str, str]:
    names = (one.definition.name for one in group if one.state is ScheduleState.MISSED)
    return {name: beats[name] for name in names if name in beats}


def _silent_beside_others(group: Sequence[Judgement]) -> Iterator[SilentBeat]:
    for part in _grouped(group, _producer):
        silent = _silent(part)
        # A sender that appeared later has taken over: what it did not send is missed, but no beat is silent.
        if silent and _producer(part[0]) and any(_is_beside(one, silent.since) for one in group if one not in part):
            yield silent


def _is_beside(one: Judgement, at: float) -> bool:
    """Whether its current sender sent it both before and after that time."""
    runs = [known.run for known in one.history.occurrences if known.run is not None]
    times = [run.at for run in runs if run.at is not None and run.producer == _producer(one) != ""]
    return any(time < at for time in times) and any(time > at for time in times)


def _silent(group: Sequence[Judgement]) -> SilentBeat | None:
    heard = [at for one in group if (at := _heard(one)) is not None]
    last_heard = max(heard, default=None)
    missed = [one for one in group if one.state is ScheduleState.MISSED]
    # What was missed while others still ran is not explained by the silence.
    newly = [one for one in missed if last_heard is None or _begin(one) > last_heard]
    if len(newly) < _MIN_MISSED:
        return None
    # One that was already missed, for example in an earlier silence, is no evidence; but it did not run in this one.
    begins = {one.definition.name: at for one in missed if (at := _begin_in(one, last_heard)) is not None}
    producers = {name for one in newly if (name := _producer(one))}
    return SilentBeat(
        key=producers.pop() if len(producers) == 1 else group[0].definition.app or UNNAMED,
        since=min(begins.values()),
        last_heard=last_heard,
        schedules=tuple(sorted(begins, key=lambda name: (begins[name], name))),
        watched=len(group),
    )


def _grouped(judgements: Iterable[Judgement], key: Callable[[Judgement], str]) -> list[list[Judgement]]:
    groups: dict[str, list[Judgement]] = {}
    for one in judgements:
        groups.setdefault(key(one), []).append(one)
    return list(groups.values())


def _producer(one: Judgement) -> str:
    return one.producers[0] if one.producers else ""


def _begin(one: Judgement) -> float:
    return one.history.missed_since or 0.0


def _begin_in(one: Judgement, last_heard: float | None) -> float | None:
    """The first due time without a run since beat was heard last; None if there is none."""
    if last_heard is None or _begin(one) > last_heard:
        return _begin(one)
    since = (known.due for known in one.history.occurrences if known.state is ScheduleState.MISSED)
    return next((due for due in since if due > last_heard), None)


def _heard(one: Judgement) -> float | None:
    """When its latest run was sent, as far as known."""
    return one.last.run.at if one.last is not None and one.last.run is not None else None
