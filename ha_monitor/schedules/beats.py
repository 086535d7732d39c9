"""Beats of which nothing is heard any more: one finding instead of one for each of their schedules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from msgspec.structs import replace

from ha_monitor.schedules.model import Judged, Judgement, ScheduleState, SilentBeat

_LEAST = 2
"""Schedules that a silent beat misses: one alone is that schedule's own."""
UNNAMED = "beat"


def silent_beats(judgements: Sequence[Judgement]) -> Judged:
    """Find the silent ones, and say of each missed schedule which of them explains it.

    All of an application are of one beat, if all that were due are missed. Else, where it is known who sends what,
    those of one sender are.
    """
    beats: list[SilentBeat] = []
    explained: dict[str, str] = {}
    for group in _grouped(judgements, lambda one: one.definition.app):
        silent = _silent(group)
        found = [silent] if silent else [_silent(part) for part in _grouped(group, _producer) if _producer(part[0])]
        for beat in filter(None, found):
            beats.append(beat)
            explained |= dict.fromkeys(beat.schedules, beat.key)
    marked = [
        replace(one, beat=explained[one.definition.name]) if one.definition.name in explained else one
        for one in judgements
    ]
    return Judged(marked, beats)


def _silent(group: Sequence[Judgement]) -> SilentBeat | None:
    # What was guessed from regular runs need not be of a beat.
    sure = [one for one in group if one.definition.is_confirmed]
    missed = [one for one in sure if one.state is ScheduleState.MISSED]
    if len(missed) < _LEAST:
        return None
    since = min(_begin(one) for one in missed)
    heard = [at for one in sure if (at := _heard(one)) is not None]
    if any(at > since for at in heard):
        return None
    producers = {name for one in missed if (name := _producer(one))}
    names = sorted(missed, key=lambda one: (_begin(one), one.definition.name))
    return SilentBeat(
        key=producers.pop() if len(producers) == 1 else group[0].definition.app or UNNAMED,
        since=since,
        last_heard=max(heard, default=None),
        schedules=tuple(one.definition.name for one in names),
        watched=len(sure),
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


def _heard(one: Judgement) -> float | None:
    """When beat sent it last."""
    return one.last.run.at if one.last is not None and one.last.run is not None else None
