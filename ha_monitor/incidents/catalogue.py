"""Every kind of incident, one row each. The lifecycle and the documentation are derived from it."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from ha_monitor.store.incidents import Severity

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
FLAP_WINDOW = 300.0
"""Seconds after its end within which an incident that recurs is still the same incident."""
RESOLVED_TTL = HOUR
"""Seconds for which a resolved incident is kept."""
UNNOTIFIED_TTL = DAY
"""Maximum seconds for which a resolved incident is kept while a channel still believes that it fires."""
JOIN_WINDOW = MINUTE
"""Seconds within which several lost workers are one incident."""


class Same(StrEnum):
    """What an incident must share with another one to follow from it."""

    KEY = "the same key"
    WORKERS = "all its tasks were on those workers"
    SCHEDULES = "it is one of its schedules"


class Kind(NamedTuple):
    """A kind of incident."""

    name: str
    severity: Severity
    key: str
    """What the key identifies, for people."""
    begins: str
    """When it begins, for people; `ends` likewise."""
    ends: str
    pending: float = 0.0
    """Seconds for which it must be seen before it fires; at least until the next look."""
    quiet: float = 0.0
    """Seconds for which it must not be seen before it is resolved."""
    follows: tuple[tuple[str, Same], ...] = ()
    """Kinds of incidents that it may follow from. While such an incident fires, a channel that is notified of it is not
    notified of this one.
    """
    always: bool = False
    """Whether it is judged even while events are not merged yet, because it does not depend on events."""


_PAGE, _WARN = Severity.PAGE, Severity.WARN

CATALOGUE = (
    Kind(
        *("worker-lost", _PAGE, "nodename; of several that were lost within a minute, the first"),
        begins="a worker is lost (`workers.lost_after`)",
        ends="it is back, said goodbye, or is forgotten",
    ),
    Kind(
        *("queue-late", _PAGE, "queue"),
        begins="its oldest task has waited for five minutes",
        ends="the oldest has waited for less, for 2 minutes",
        pending=MINUTE,
        quiet=2 * MINUTE,
        follows=(("no-consumer", Same.KEY),),
    ),
    Kind(
        *("no-consumer", _PAGE, "queue"),
        begins="messages wait and no worker consumes it",
        ends="a worker consumes it, nothing waits, or it is gone",
        pending=2 * MINUTE,
    ),
    Kind(
        *("error-new", _WARN, "group of errors"),
        begins="an error of a group that is new",
        ends="the group is resolved or ignored, or a day passes without an error of it",
    ),
    Kind(
        *("error-regressed", _WARN, "group of errors"),
        begins="an error of a group that was resolved",
        ends="the group is resolved or ignored, or a day passes without an error of it",
    ),
    Kind(
        *("failing", _WARN, "task name"),
        begins="a tenth of its runs in 5 minutes failed, of at least 20",
        ends="fewer do, for 10 minutes",
        quiet=10 * MINUTE,
    ),
    Kind(
        *("retry-storm", _WARN, "task name"),
        begins="twice as many runs as ended tasks in 5 minutes, of at least 50",
        ends="fewer than one and a half times as many, for 2 minutes",
        quiet=2 * MINUTE,
    ),
    Kind(
        *("task-stuck", _WARN, "task name"),
        begins="tasks of that name are stuck (line `task-stuck`)",
        ends="none is left",
        follows=(("worker-lost", Same.WORKERS),),
    ),
    Kind(
        *("task-orphaned", _PAGE, "task name"),
        begins="no worker or queue has tasks of that name any longer (line `task-orphaned`)",
        ends="none is left",
        follows=(("worker-lost", Same.WORKERS),),
    ),
    Kind(
        *("poison-task", _PAGE, "task name"),
        begins="a task of that name was running at least twice in a day when its worker was lost, and is open",
        ends="it has ended, or a day passes",
    ),
    Kind(
        *("events-lost", _WARN, "nodename"),
        begins="events of a worker were lost (line `events-lost`)",
        ends="15 minutes pass without another",
    ),
    Kind(
        *("schedule-missed", _PAGE, "schedule"),
        begins="a schedule did not run within its grace ([schedules](schedules.md))",
        ends="it runs",
        follows=(("beat-silent", Same.SCHEDULES),),
    ),
    Kind(
        *("learned-missed", _WARN, "task name"),
        begins="a task that runs regularly, although no source defines a schedule, did not run "
        "([learned](schedules.md#what-is-learned))",
        ends="it runs, it is told by a source, or it is forgotten: after a day, or a period of up to a week",
        pending=MINUTE,
    ),
    Kind(
        *("schedule-doubled", _WARN, "schedule"),
        begins="its latest due times had more than one run each",
        ends="they have one each",
    ),
    Kind(
        *("beat-silent", _PAGE, "the beat, if it is known which"),
        begins="all schedules of a beat that were due did not run; in place of an incident for each",
        ends="one of them runs",
    ),
    Kind(
        *("schedule-failed", _WARN, "schedule"),
        begins="its latest run failed, did not end within `must_end_within`, or expired in its queue",
        ends="a run succeeds, in time",
    ),
    Kind(
        *("monitor", _PAGE, "`instances`, `consuming`, `lag`, `brokers`, `store` or `channel-<name>`"),
        begins="an instance died and did not come back, one does not consume, events are merged more "
        "than a minute late, instances consume from two Redis servers (line `brokers-differ`), Redis has used nine "
        "tenths of its memory, or a [channel](being-told.md) does not take all messages",
        ends="the problem is gone, or a dead instance is missing for a day",
        pending=MINUTE,
        quiet=30.0,
        always=True,
    ),
    Kind(
        *("store-went-back", _WARN, "empty"),
        begins="Redis had less than it had confirmed (line `store-went-back`)",
        ends="15 minutes pass without another",
        always=True,
    ),
    Kind(
        *("queue-shared", _PAGE, "queue of events"),
        begins="something else takes events away, such as instances with another store (line `queue-shared`)",
        ends="for 2 minutes it has had no more consumers than there are instances",
        quiet=2 * MINUTE,
        always=True,
    ),
)

KINDS = {kind.name: kind for kind in CATALOGUE}
