"""What goes into the calls of the store, and what comes out of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ha_monitor.store.outbox import OutboxItem


class Applied(NamedTuple):
    """What a batch brought."""

    items: list[OutboxItem]
    new: int
    """Events merged for the first time."""
    repeated: int
    """Events that some instance had merged before."""
    waiting: int
    """Tasks, over all instances, whose announcements wait for a piece."""
    trouble: str = ""
    """What Redis refused: something that is derived from the events, such as a count. Empty if nothing."""
    merged: int = 0
    """How many of the batch's tasks are merged. If not all of them, nothing else of the batch is: send the rest."""


class Recovered(NamedTuple):
    """What the outbox held after a broken connection."""

    items: list[OutboxItem]
    behind: int
    """Sequence number of the item that comes next."""


class Takeover(NamedTuple):
    """An instance whose lease ran out and whose outbox this one took over."""

    who: dict[str, Any]
    silent: float
    """Seconds since it last renewed its lease."""
    entries: int


class Ticked(NamedTuple):
    """What time brought."""

    items: list[OutboxItem]
    next_due: float | None
    """Seconds until more becomes due; None if nothing waits."""
    taken: list[Takeover]
    leads: bool
    """Whether this instance leads for as long as its lease holds."""
    followed: bool
    """It has just become the leader after another one, which may still be seen where its metrics are kept."""
    trouble: str = ""
    """As `Applied.trouble`."""


class Watched(NamedTuple):
    """What the leader sees of the fleet."""

    items: list[OutboxItem]
    instances: int
    """Instances whose lease holds."""
    waiting: int
    """Tasks whose announcements wait for a piece."""
    retries: int
    """Handlers to be called again."""
    dead_letters: int
    workers: list[WorkerState]
    queues: list[str]
    """Queues of tasks that a worker consumes, or did not long ago."""
    stuck: int = 0
    """Tasks that were said to be stuck and still are."""
    orphaned: int = 0
    """Tasks that were said to be orphaned and still are."""
    tables: Sequence[Table] = ()


class Table(NamedTuple):
    """How full a table of the shared record is; `tables.lua` says what each is."""

    name: str
    size: int | None
    """Entries; None where it is about each process by itself."""
    limit: int
    turned_away: int
    """Entries that were refused or had to make room, until a day passes without one."""


class WorkerState(NamedTuple):
    """What the leader makes of a worker."""

    name: str
    state: str
    """`online`; `late`, `lost`: silent for long; `offline`: it said so."""
    active: int | None
    """Tasks that it runs; None if that is not known."""


class Watching(NamedTuple):
    """How the leader judges the workers. Durations are in seconds."""

    late_after: float
    lost_after: float


class Counting(NamedTuple):
    """How events are counted for the metrics."""

    name: str
    """Whose counts they are: the same after a restart."""
    max_series: int
    """Counts kept; what would be more is added up under labels of its own."""
    buckets: list[float]
    """Upper bounds of the histograms, ascending."""
    per_worker: bool
    """Whether the workers are told apart."""
