"""Schedules that do not run, run twice or fail; and beats that send nothing."""

from __future__ import annotations

from collections.abc import Iterator

from ha_monitor.incidents.facts import Facts
from ha_monitor.incidents.sighting import Sighting, command_of, count_of, names_of
from ha_monitor.schedules.learned import warns_for
from ha_monitor.schedules.model import Judgement, ScheduleState, Source
from ha_monitor.schedules.timetable import exact_duration
from ha_monitor.text.patterns import quoted
from ha_monitor.text.times import duration
from ha_monitor.text.visible import visible

MAX_NAMED = 100
"""Names of schedules that an incident about a beat keeps."""
_HOW = {
    ScheduleState.FAILED: "failed at its last due time",
    ScheduleState.OVERRAN: "did not end in time",
    ScheduleState.SKIPPED: "was not started at its last due time: it expired in its queue",
}


def schedule_missed(facts: Facts) -> Iterator[Sighting]:
    """Nothing ran within the grace. A silent beat's schedules open no incidents of their own; open ones go on."""
    for one in _judged(facts, ScheduleState.MISSED):
        name = one.definition.name
        if one.beat is not None and not facts.is_open("schedule-missed", name):
            continue
        times = count_of(one.missed, "time")
        yield _sighting(
            "schedule-missed",
            one,
            f"{visible(name)} did not run when it was due, {times} in a row: {_what(one)}",
            size=max(1, one.missed),
        )


def learned_missed(facts: Facts) -> Iterator[Sighting]:
    """A task that ran regularly no longer runs. That it should run is a guess: so no incident opens while a silent beat
    may explain it, or, where no event says when it was sent, while it may be waiting in a queue.
    """
    for one in facts.schedules.judgements if facts.schedules is not None else ():
        definition, last = one.definition, one.last
        if definition.source is not Source.LEARNED or one.state is not ScheduleState.MISSED:
            continue
        may_wait = (last is None or last.run is None or last.run.sent is None) and _may_wait(facts)
        if (may_wait or _may_be_silent(facts)) and not facts.is_open("learned-missed", definition.name):
            continue
        said = (
            f"{visible(definition.task)} ran {definition.timetable}, but no longer does; no source says that "
            f"it should: {definition.basis}. Unless it is confirmed (ha-monitor schedules --learned), it is forgotten "
            f"after {exact_duration(warns_for(one.period or 0.0))}"
        )
        yield _sighting("learned-missed", one, said)


def _may_be_silent(facts: Facts) -> bool:
    """Whether a beat is silent, or was and may be: not everything was looked at."""
    judged = facts.schedules
    if judged is None:
        return False
    return bool(judged.beats) or (not judged.is_whole and any(kind == "beat-silent" for kind, _ in facts.open_keys))


def _may_wait(facts: Facts) -> bool:
    """Whether tasks wait in any queue, or that is not known."""
    return facts.survey is None or any(queue.length or not queue.is_consumed for queue in facts.survey)


def schedule_doubled(facts: Facts) -> Iterator[Sighting]:
    """Most likely two beats are running."""
    for one in facts.schedules.judgements if facts.schedules is not None else ():
        if one.is_doubled:
            senders = f", sent by {names_of(one.producers)}" if len(one.producers) > 1 else ""
            said = (
                f"{visible(one.definition.name)} ran more than once when it was due{senders}: does a second beat run?"
            )
            yield _sighting("schedule-doubled", one, said)


def schedule_failed(facts: Facts) -> Iterator[Sighting]:
    """It ran, but not as it should have."""
    for state, how in _HOW.items():
        for one in _judged(facts, state):
            yield _sighting("schedule-failed", one, f"{visible(one.definition.name)} {how}: {_what(one)}")


def beat_silent(facts: Facts) -> Iterator[Sighting]:
    """Everything that one beat should have sent is missing: one incident instead of one per schedule."""
    for beat in facts.schedules.beats if facts.schedules is not None else ():
        which = "beat" if beat.key in ("", "beat") else f"the beat {visible(beat.key)}"
        missed = len(beat.schedules)
        all_that = f"all that was due, {missed:,} of {count_of(beat.watched, 'schedule')}"
        yield Sighting(
            "beat-silent",
            beat.key,
            f"nothing comes from {which}: {all_that}, did not run: {names_of(beat.schedules)}",
            size=missed,
            since=beat.since,
            facts={"schedules": missed, "watched": beat.watched, "last_heard": beat.last_heard},
            command=command_of("schedules"),
            members=beat.schedules[:MAX_NAMED],
        )


def _judged(facts: Facts, state: ScheduleState) -> Iterator[Judgement]:
    """The schedules in a state that a source defines, not those that were only learned."""
    for one in facts.schedules.judgements if facts.schedules is not None else ():
        if one.state is state and one.definition.source is not Source.LEARNED:
            yield one


def _sighting(kind: str, one: Judgement, summary: str, *, size: int = 1) -> Sighting:
    definition, last = one.definition, one.last
    return Sighting(
        kind,
        definition.name,
        summary,
        size=size,
        since=one.since,
        facts={
            "task": definition.task,
            "schedule": definition.timetable,
            "source": definition.source.value,
            "last_due": None if last is None else last.due,
            "next_due": one.next_due,
        },
        command=command_of("schedules", quoted(definition.name)),
        tasks=() if last is None or last.run is None else (last.run.task_id,),
        schedules=frozenset([definition.name]),
    )


def _what(one: Judgement) -> str:
    """The task, and when it runs."""
    period = (
        "" if one.period is None or one.definition.timetable.startswith("every") else f", every {duration(one.period)}"
    )
    return f"{visible(one.definition.task)}, {visible(one.definition.timetable)}{period}"
