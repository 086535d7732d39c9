"""The state of the fleet as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from ha_monitor.status.fleet import Fleet, Instance, Queue
from ha_monitor.status.workers import Worker
from ha_monitor.text.table import Column, laid_out, plain
from ha_monitor.text.times import duration
from ha_monitor.text.visible import visible

_INSTANCE = ("INSTANCE", "HOST", "PID", "STATE", "AGE", "SEEN", "SHARE", "EVENTS", "LINES", "LAG", "OUTBOX", "VERSION")
_WORKER = ("WORKER", "STATE", "SEEN", "ACTIVE", "PROCESSED", "LOAD", "SOFTWARE", "CLOCK")


def render(fleet: Fleet, origin: str = "") -> list[str]:
    """Tables of instances and workers, and a row for each other item.

    :param origin: where the store's URL comes from; shown if there is no instance.
    """
    rows = [f"{fleet.node_id}  {_queue(fleet.queue)}", ""]
    instances = [_instance(instance) for instance in fleet.instances]
    rows += (
        _table(_INSTANCE, instances)
        if instances
        else [f"no instance has started yet ({origin})" if origin else "no instance has started yet"]
    )
    rows.append("")
    workers = [_worker(worker) for worker in fleet.workers]
    rows += _table(_WORKER, workers) if workers else ["no worker seen yet"]
    if fleet.more_workers:
        rows.append(f"… and {fleet.more_workers} more workers")
    rows.append("")
    rows.append(f"stuck tasks {fleet.stuck_tasks}   orphaned tasks {fleet.orphaned_tasks}")
    rows.append(
        f"waiting announcements {fleet.waiting_announcements}   handler retries {fleet.handler_retries}   "
        f"dead letters {fleet.dead_letters}   rejected {fleet.rejected}   takeovers {fleet.takeovers}"
    )
    return rows


def _queue(queue: Queue) -> str:
    if queue.problem is not None:
        return f"queue {queue.name}: unknown: {queue.problem}"
    if queue.depth is None:
        return f"queue {queue.name}: none (it does not exist yet, or the broker is Redis)"
    return f"queue {queue.name}: {queue.depth} messages, {queue.consumers} consumers"


def _instance(one: Instance) -> Sequence[str]:
    return (
        one.instance,
        one.host,
        str(one.pid),
        f"{one.state}, leads" if one.leads else one.state,
        duration(one.age),
        f"{duration(one.silent)} ago",
        f"{one.share:.1%}",
        str(one.events),
        str(one.lines),
        f"{one.lag * 1000:.0f}ms" if one.lag < 10 else duration(one.lag),
        str(one.unannounced),
        one.version,
    )


def _worker(one: Worker) -> Sequence[str]:
    load = " ".join(str(number) for number in one.loadavg) if isinstance(one.loadavg, list) else ""
    seen = f"{duration(one.silent)} ago"
    state = f"{one.state}, no task events" if one.task_events is False else one.state
    clock = _clock(one.skew)
    return (one.name, state, seen, _text(one.active), _text(one.processed), load, one.software, clock)


def _clock(skew: float) -> str:
    if not skew:
        return ""
    return f"{duration(abs(skew))} {'ahead' if skew > 0 else 'behind'}"


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return plain(laid_out([Column(name) for name in header], rows, visible))
