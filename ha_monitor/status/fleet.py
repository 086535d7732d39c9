"""The state of the fleet, read from the store and the broker."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from ha_monitor.clock import Clock
from ha_monitor.config.schema import Config
from ha_monitor.errors import BrokerUnavailable
from ha_monitor.outputs.line import iso_time
from ha_monitor.status.workers import Worker, worker_of
from ha_monitor.store.reader import Counts, InstanceEntry, StoreReader, Workers


class Instance(Struct):
    """One instance. Durations are in seconds."""

    instance: str
    host: str
    pid: int
    version: str
    alive: bool
    """Whether its lease is valid."""
    state: str
    leads: bool
    """Whether it is the leader."""
    age: float
    """Since it started."""
    silent: float
    """Since its last tick."""
    share: float
    """Its share of the events that the live instances have merged since each started, 0 to 1."""
    events: int
    lines: int
    lag: float
    """Seconds between the newest event of its last batch and the merge."""
    last_event: str | None
    """When it last merged events."""
    unannounced: int
    stats: dict[str, Any]
    """All its counters."""


class Queue(Struct):
    """The shared queue; depth and consumers are null where the broker has none or cannot be reached."""

    name: str
    depth: int | None = None
    consumers: int | None = None
    problem: str | None = None


class Fleet(Struct):
    """Everything that `ha-monitor status` shows."""

    node_id: str
    time: str
    instances: list[Instance]
    queue: Queue
    workers: list[Worker]
    more_workers: int
    """How many workers are not listed: those that have been silent for longest."""
    waiting_announcements: int
    handler_retries: int
    dead_letters: int
    rejected: int
    takeovers: int
    stuck_tasks: int
    orphaned_tasks: int


def read_fleet(config: Config, clock: Clock) -> Fleet:
    """Read the state from the store and the broker.

    :raises StoreUnavailable: if the store cannot be read; an unavailable broker is reported in the result.
    """
    reader = StoreReader(config.store, config.node_id)
    reader.connect()
    try:
        instances, workers, counts = reader.instances(), reader.workers(config.workers.late_after), reader.counts()
    finally:
        reader.close()
    return assemble(config, now=clock.time(), instances=instances, workers=workers, counts=counts, queue=_queue(config))


def assemble(
    config: Config,
    *,
    now: float,
    instances: list[InstanceEntry],
    workers: Workers,
    counts: Counts,
    queue: Queue,
) -> Fleet:
    """Combine what was read into one answer."""
    total = sum(_number(entry.stats, "new") for entry in instances if entry.lease_left > 0)
    return Fleet(
        node_id=config.node_id,
        time=iso_time(now),
        instances=sorted(
            (_instance(entry, now, total) for entry in instances), key=lambda one: (one.host, one.instance, -one.age)
        ),
        queue=queue,
        workers=[worker_of(entry) for entry in workers.entries],
        more_workers=workers.more,
        waiting_announcements=counts.waiting,
        handler_retries=counts.retries,
        dead_letters=counts.dead_letters,
        rejected=counts.rejected,
        takeovers=counts.takeovers,
        stuck_tasks=counts.stuck,
        orphaned_tasks=counts.orphaned,
    )


def _instance(entry: InstanceEntry, now: float, total: float) -> Instance:
    stats, who = entry.stats, entry.who
    alive = entry.lease_left > 0
    return Instance(
        instance=str(who.get("instance", "?")),
        host=str(who.get("host", "?")),
        pid=int(_number(who, "pid")),
        version=str(who.get("version", "?")),
        alive=alive,
        state=str(stats.get("state", "starting")) if alive else "dead",
        leads=alive and entry.leads,
        age=max(0.0, now - _number(who, "started", now)),
        silent=entry.silent,
        share=_number(stats, "new") / total if alive and total else 0.0,
        events=int(_number(stats, "events")),
        lines=int(_number(stats, "lines")),
        lag=_number(stats, "lag"),
        last_event=_time(stats, "last_event"),
        unannounced=entry.outbox,
        stats=stats,
    )


def _number(values: dict[str, Any], name: str, otherwise: float = 0.0) -> float:
    """A number that an instance wrote, if it is plausible; `otherwise` for anything else."""
    value = values.get(name)
    return value if isinstance(value, int | float) and 0 <= value < 1e15 else otherwise


def _time(values: dict[str, Any], name: str) -> str | None:
    """A time that an instance wrote; None for anything else."""
    seconds = _number(values, name)
    try:
        return iso_time(seconds) if seconds else None
    except ValueError:  # in a year beyond 9999
        return None


def _queue(config: Config) -> Queue:
    # Commands that ask only the store need not load the broker's libraries.
    from ha_monitor.broker.inspection import queue_state  # noqa: PLC0415

    try:
        state = queue_state(config)
    except BrokerUnavailable as error:
        return Queue(config.queue_name, problem=str(error))
    if state is None:
        return Queue(config.queue_name)
    return Queue(state.name, state.depth, state.consumers)
