"""The facts that the rules judge, as of one look of the leader. Times are in seconds since the epoch."""

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
    """Tasks that could have started, as far as producers report what they send."""
    oldest: float | None
    """When the oldest of them could have started."""


class SurveyedQueue(NamedTuple):
    """What the broker and the workers report about a queue of tasks."""

    name: str
    length: int
    is_consumed: bool


class InstanceFacts(NamedTuple):
    """An instance that is alive, or should be."""

    name: str
    """Host and instance."""
    is_alive: bool
    is_consuming: bool = False
    lag: float = 0.0
    died_at: float | None = None
    broker: str = ""
    """Its address."""
    listener: Listener | None = None
    """What it has received from the others; None if they need not share one broker, or if the broker has a name."""


class LostTasks(NamedTuple):
    """The tasks that a lost worker had, and what became of them."""

    ids: tuple[str, ...] = ()
    is_partial: bool = False
    """True if not all open tasks were looked at, so there may be more."""
    again: int = 0
    """Run again elsewhere, or waiting to be."""
    ended: int = 0
    orphaned: int = 0
    asked: int = 0
    """Not decided yet: workers are still being asked."""
    more: int = 0
    """Further tasks, which are not followed because too many are lost."""


class NamedTasks(NamedTuple):
    """The tasks of one name that are stuck, or that are orphaned."""

    name: str
    tasks: tuple[KeptTask, ...]


class PoisonTasks(NamedTuple):
    """Open tasks of one name, each of which lost its worker several times while running."""

    name: str
    tasks: tuple[KeptTask, ...]
    workers: tuple[str, ...]
    """The workers that were lost while running them."""
    losses: int
    """How many losses the task with the most losses had."""


class Facts(NamedTuple):
    """All facts of one look."""

    now: float
    workers: Sequence[WorkerState] = ()
    all_workers: bool = True
    """Whether `workers` is complete."""
    lost_tasks: Mapping[str, LostTasks] = {}
    """By nodename."""
    queues: Sequence[QueueFacts] = ()
    survey: Sequence[SurveyedQueue] | None = None
    """None if there is no recent one."""
    errors: Sequence[ErrorGroup] = ()
    """The latest groups, and the groups of open incidents."""
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
    """Names of the channels that cannot deliver messages about incidents."""
    event_queue: SharedQueue | None = None
    """None while its consumers are not known."""
    schedules: Judged | None = None
    """None if they cannot be judged now."""
    partial: frozenset[str] = frozenset()
    """Kinds of incidents about tasks, of which there may be more tasks: not all in that state were looked at."""
    are_events_merged: bool = True
    """Whether everything sent until some seconds ago is merged; otherwise only kinds that need no events are judged."""

    def is_open(self, kind: str, key: str) -> bool:
        return (kind, key) in self.open_keys
