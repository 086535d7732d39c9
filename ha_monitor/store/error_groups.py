"""Groups of errors as they are read (`queries.py`), and what a person says about them."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple, Protocol

from msgspec import Struct, field

HOURS = 24
"""Hours for which a group has its number of failures."""
MAX_TASKS = 20
NEW_FOR = 86_400.0
"""Seconds after its first error for which a group is new."""
LEARNING = 600.0
"""Seconds after the creation of a store in which nothing is new: in an empty store, everything would be."""
_HOUR = 3_600_000_000


class GroupState(StrEnum):
    """How a group is to be judged."""

    NEW = "new"
    KNOWN = "known"
    RESOLVED = "resolved"
    """A person said so, and no error has come since."""
    REGRESSED = "regressed"
    """It was resolved, and an error came again."""
    IGNORED = "ignored"
    """A person said so, for a time that is not over."""


class FailedTask(NamedTuple):
    """A task with an error in a group."""

    task_id: str
    time: float
    """Of its last error, seconds since the epoch."""


class ErrorGroup(NamedTuple):
    """The errors of one task name, one class of exception and one place. Times are in seconds since the epoch."""

    id: str
    name: str
    error_class: str
    place: str
    """See `events/fingerprint.py`."""
    state: GroupState
    failures: int
    retries: int
    """Runs that were retried for such an error."""
    first: float
    last: float
    by_hour: tuple[int, ...]
    """Failures in each of the last `HOURS` hours of the clock, the current hour last."""
    message: str
    """Of the last error."""
    tasks: tuple[FailedTask, ...]
    """The tasks with the latest errors, the latest first, at most `MAX_TASKS`."""
    traceback: str
    """The end of the last traceback; empty if there was none."""
    resolved_at: float | None = None
    ignored_until: float | None = None


class ErrorMarks(Protocol):
    """What a person says about a group of errors. Needs no lease. Each call returns whether the group exists, and
    raises `StoreUnavailable`.
    """

    def resolve(self, group_id: str) -> bool:
        """Its cause was removed: an error from now on is a regression."""

    def ignore(self, group_id: str, seconds: float) -> bool:
        """It is known and does not matter for so many seconds."""

    def reopen(self, group_id: str) -> bool:
        """Take back what was said about it."""


class GroupFacts(Struct, frozen=True):
    """The stored facts of a group; see `store/lua/error_groups.lua` for their meaning. Times of errors are in µs."""

    name: str = field(name="n")
    error_class: str = field(name="c")
    place: str = field(name="p")
    first: int = field(name="f")
    last: int = field(name="l")
    failures: int = field(name="k", default=0)
    retries: int = field(name="x", default=0)
    hours: dict[int, int] = field(name="h", default_factory=dict)
    tasks: list[tuple[str, int]] = field(name="i", default_factory=list)
    message: str = field(name="m", default="")
    resolved: int | None = field(name="ra", default=None)
    """In ms."""
    ignored: int | None = field(name="iu", default=None)
    """In ms."""


def group_from(group_id: str, facts: GroupFacts, traceback: str, *, now: float, since: float) -> ErrorGroup:
    """A group as people see it.

    :param now: by the store's clock, seconds since the epoch.
    :param since: when the store began to keep groups, likewise.
    """
    hour = int(now * 1_000_000) // _HOUR
    return ErrorGroup(
        id=group_id,
        name=facts.name,
        error_class=facts.error_class,
        place=facts.place,
        state=_state(facts, now, since),
        failures=facts.failures,
        retries=facts.retries,
        first=facts.first / 1e6,
        last=facts.last / 1e6,
        by_hour=tuple(facts.hours.get(hour - ago, 0) for ago in reversed(range(HOURS))),
        message=facts.message,
        tasks=tuple(FailedTask(task_id, at / 1e6) for task_id, at in facts.tasks),
        traceback=traceback,
        resolved_at=None if facts.resolved is None else facts.resolved / 1000,
        ignored_until=None if facts.ignored is None else facts.ignored / 1000,
    )


def _state(facts: GroupFacts, now: float, since: float) -> GroupState:
    if facts.ignored is not None and facts.ignored > now * 1000:
        return GroupState.IGNORED
    if facts.resolved is not None:
        return GroupState.REGRESSED if facts.last > facts.resolved * 1000 else GroupState.RESOLVED
    first = facts.first / 1e6
    return GroupState.NEW if first >= since + LEARNING and now - first < NEW_FOR else GroupState.KNOWN
