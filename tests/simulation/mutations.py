"""Cures, each taken out of the program: the simulation must find that.

    python -m tests.simulation --mutations

says how many seeds each takes.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple
from unittest.mock import PropertyMock, patch

from ha_monitor.broker.source import Mark
from ha_monitor.pipeline.announcements import Announcements
from ha_monitor.pipeline.collector import Collected, Collector
from ha_monitor.pipeline.in_flight import BatchesInFlight
from ha_monitor.pipeline.merging import Merging
from ha_monitor.pipeline.pipeline import Pipeline
from ha_monitor.pipeline.repeats import Repeats
from ha_monitor.pipeline.stuck import Pending, StuckTaskDuty
from ha_monitor.pipeline.watch import WatchDuty
from ha_monitor.pipeline.watermark import FleetWatermark, Listening, Watermark
from ha_monitor.store.memory.server import MemoryServer
from ha_monitor.store.memory.store import MemoryStore
from ha_monitor.store.memory.task import MemoryTask
from ha_monitor.store.outbox import OutboxItem
from ha_monitor.store.own_state import Lease, RollbackMemory
from ha_monitor.store.results import Recovered
from tests.simulation.broker import QueueSource, SubscribedSource
from tests.simulation.hosts import Process
from tests.unit.loop_bed import BareInstance


class Mutation(NamedTuple):
    """A cure that is taken out."""

    name: str
    seed: int | None
    """A world that shows what is wrong then; None if none is known. `--mutations` finds others when worlds change."""
    finds: str
    """A part of the words in which it is told."""
    owner: type
    attribute: str
    instead: object

    def taken_out(self) -> AbstractContextManager[object]:
        """The program without it."""
        return patch.object(self.owner, self.attribute, self.instead)


def _acknowledge_first(merging: Merging) -> None:
    taken = merging._collector.take
    with patch.object(merging._collector, "take", lambda: _acknowledged(merging, taken())):
        _send_next(merging)


def _acknowledged(merging: Merging, collected: Collected) -> Collected:
    if collected.redelivered:
        return collected
    merging._owner.acknowledge(collected.mark)
    return collected._replace(mark=None)


_send_next = Merging.send_next


def _acknowledge_redelivered_first(merging: Merging, collected: Collected) -> None:
    merging._owner.acknowledge(collected.mark)
    _merge_redelivered(merging, collected._replace(mark=None))


_merge_redelivered = Merging._merge_redelivered


def _write_again(announcements: Announcements, recovered: Recovered) -> None:
    announcements._lines_until = 0
    announcements.add(recovered.items)


def _keep_what_was_given(pipeline: Pipeline) -> None:
    pipeline._in_flight.give_up()
    pipeline._collector.forget()


def _forget_what_is_in_flight(in_flight: BatchesInFlight) -> None:
    in_flight._sent.clear()
    _give_up(in_flight)


_give_up = BatchesInFlight.give_up


def _acknowledge_again(collector: Collector, mark: Mark | None) -> Mark | None:
    return mark


def _confirm_at_once(duty: StuckTaskDuty, pending: Pending, now: float) -> list[OutboxItem]:
    items = duty._tasks.confirm(0, pending.confirmations)
    duty._pending = None
    return items or []


def _unmarked(repeats: Repeats, items: Iterable[OutboxItem], **_: Any) -> Iterable[OutboxItem]:
    return items


def _connected_as_before(repeats: Repeats) -> None:
    is_first = repeats._served_since is None
    _connected(repeats)
    repeats.suspects_loss &= not is_first


_connected = Repeats.connected


def _forget_requeued(watermark: Watermark) -> None:
    _disconnected(watermark)
    watermark.requeued = False


_disconnected = Watermark.disconnected


def _merge_again(task: MemoryTask, *arguments: Any) -> bool:
    task._seen.clear()
    return _merge(task, *arguments)


_merge = MemoryTask.merge


def _shrunk_without_ids(task: MemoryTask, now: float) -> MemoryTask:
    other = _at(task, now)
    if other.facts.marks:
        other._seen.clear()
    return other


_at = MemoryTask.at


def _whoever_ends_the_wait(store: MemoryStore, now: float, *, receives: bool) -> Any:
    return _waited(store, now, receives=True)


_waited = MemoryStore._waited


def _judge_without_delivery(duty: WatchDuty, *arguments: Any, **more: Any) -> bool:
    duty._delivered_at = duty._clock.monotonic()
    return _may_declare_lost(duty, *arguments, **more)


_may_declare_lost = WatchDuty._may_declare_lost


MUTATIONS = [
    Mutation("acknowledge before the merge", 14, "lost", Merging, "send_next", _acknowledge_first),
    Mutation(
        *("acknowledge redelivered messages before the merge", 96, "lost"),
        *(Merging, "_merge_redelivered", _acknowledge_redelivered_first),
    ),
    Mutation("write without a lease", 239, "twice", MemoryStore, "holds_lease", lambda _: True),
    Mutation("write again what is recovered", 936, "twice", Announcements, "recover", _write_again),
    Mutation("announce again what was merged before", 0, "twice", MemoryTask, "merge", _merge_again),
    Mutation("forget the events of a record that shrank", 2, "twice", MemoryTask, "at", _shrunk_without_ids),
    Mutation("mark nothing after the store went back", 2387, "twice", Repeats, "marked", _unmarked),
    Mutation("do not suspect a loss", 976, "twice", Repeats, "marked_if_lost", lambda _, items, **_way: items),
    Mutation("start without a suspicion", 84, "twice", Repeats, "connected", _connected_as_before),
    Mutation("do not notice that the store went back", 178, "twice", RollbackMemory, "_noticed", lambda *_: None),
    Mutation("take over right after an outage", 191, "taken-over", Lease, "may_take_over", lambda _: True),
    Mutation("keep messages without a store", 52, "though the end", Pipeline, "_repeat_batches", _keep_what_was_given),
    Mutation("forget what is in flight", 2, "lost", BatchesInFlight, "give_up", _forget_what_is_in_flight),
    Mutation("forget what pub/sub had sent", 270, "lost", Collector, "broker_lost", Collector.forget),
    Mutation("acknowledge twice", None, "without any fault", Collector, "_once", _acknowledge_again),
    Mutation("forget what a slow instance holds", 826, "no name", Watermark, "age", lambda _: 0.0),
    Mutation("forget what is requeued", None, "no name", Watermark, "disconnected", _forget_requeued),
    Mutation("end a wait without a broker", 1378, "no name", MemoryStore, "_waited", _whoever_ends_the_wait),
    Mutation("judge workers though a backlog exists", 844, "lives", FleetWatermark, "ages", lambda _: (0.0, 0.0)),
    Mutation("judge workers without having listened", 44, "lives", Listening, "has_lasted", lambda *_: True),
    Mutation("ignore an alarm of the broker", 44, "lives", Process, "_ask", BareInstance._ask),
    Mutation("judge without delivery", None, "lives", WatchDuty, "_may_declare_lost", _judge_without_delivery),
    Mutation("do not ask whether it delivers", 33, "lives", QueueSource, "prove_delivery", lambda _: None),
    Mutation(
        "ignore a silent subscription", None, "/readyz", SubscribedSource, "silence", PropertyMock(return_value=0.0)
    ),
    Mutation("call tasks stuck without waiting", None, "though the end", StuckTaskDuty, "_confirm", _confirm_at_once),
    Mutation("take a lease of a clock put back for live", None, "rest", MemoryServer, "tick", lambda *_: 0.0),
]
