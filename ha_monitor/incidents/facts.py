"""What the rules judge by: as of one look of the leader. Times are in seconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ha_monitor.incidents.listeners import Listener
from ha_monitor.incidents.shared_queue import SharedQueue
from ha_monitor.schedules.model import Judged
from ha_monitor.store.error_groups import ErrorGroup
from ha_monitor.store.incidents import Mark
from ha_monitor.store.name_statistics import NameStatistic
from ha_monitor.store.queries import Gap, KeptTask
from ha_monitor.store.results import WorkerState


class QueueFacts(NamedTuple):
    """What is known of a queue of tasks."""

    name: str
    waiting: int
    """Tasks that could have started, as far as producers tell what they send."""
    oldest: float | None
    """Since when the oldest of them could have."""


class SurveyedQueue(NamedTuple):
    """What the broker and the workers say of a queue of tasks."""

    name: str
    length: int
    is_consumed: bool


class InstanceFacts(NamedTuple):
    """An instance that lives, or should."""

    name: str
    """Host and instance."""
    is_alive: bool
    is_consuming: bool = False
    lag: float = 0.0
    died_at: float | None = None
    broker: str = ""
    """Its address."""
    listener: Listener | None = None
    """What it has received of the others; None where they need not be at one broker, and where that has a name."""


class LostTasks(NamedTuple):
    """The tasks that a lost worker had, and what became of them."""

    ids: tuple[str, ...] = ()
    is_partial: bool = False
    """Not all open tasks were looked at, so that there may be more."""
    again: int = 0
    """Run again elsewhere, or waiting for that."""
    ended: int = 0
    orphaned: int = 0
    asked: int = 0
    """Not decided yet."""
    more: int = 0
    """That it had besides, and of which too many are lost to follow each."""


class NamedTasks(NamedTuple):
    """Tasks of a name in a state of their own."""

    name: str
    tasks: tuple[KeptTask, ...]
    is_partial: bool = False
    """Not all tasks in that state were looked at, so that there may be more."""


class PoisonTasks(NamedTuple):
    """Open tasks of a name under each of which several workers were lost."""

    name: str
    tasks: tuple[KeptTask, ...]
    workers: tuple[str, ...]
    """Those that were lost under them."""
    losses: int
    """How often that was, of the task under which it was most often."""


class Facts(NamedTuple):
    """All of it."""

    now: float
    workers: Sequence[WorkerState] = ()
    all_workers: bool = True
    """Whether these are all of them."""
    lost_tasks: Mapping[str, LostTasks] = {}
    """By nodename."""
    queues: Sequence[QueueFacts] = ()
    survey: Sequence[SurveyedQueue] | None = None
    """None if there is no recent one."""
    errors: Sequence[ErrorGroup] = ()
    """Those that came last, and those of open incidents."""
    names: Sequence[NameStatistic] = ()
    """Of the last five minutes."""
    stuck: Sequence[NamedTasks] = ()
    orphaned: Sequence[NamedTasks] = ()
    poison: Sequence[PoisonTasks] = ()
    gaps: Sequence[Gap] = ()
    instances: Sequence[InstanceFacts] = ()
    memory: float | None = None
    """The share of its memory that the store has used; None if it has no limit, or says nothing."""
    went_back_at: float = 0.0
    marks: Sequence[Mark] = ()
    """The latest deployments, newest first."""
    open_keys: frozenset[tuple[str, str]] = frozenset()
    """Kind and key of the incidents that fire, or are about to."""
    failing_channels: Sequence[str] = ()
    """Those that cannot be told of incidents, by name."""
    event_queue: SharedQueue | None = None
    """None while it is not known who consumes it."""
    schedules: Judged | None = None
    """None if they cannot be judged now."""
    are_events_merged: bool = True
    """Whether all that was sent until some seconds ago is merged: else only what does not rest on events is judged."""

    def is_open(self, kind: str, key: str) -> bool:
        return (kind, key) in self.open_keys
