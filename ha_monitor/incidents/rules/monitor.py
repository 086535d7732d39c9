"""What is wrong with the monitor itself, and with its store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from ha_monitor.incidents.catalogue import DAY
from ha_monitor.incidents.facts import Facts, InstanceFacts
from ha_monitor.incidents.listeners import different_brokers_text
from ha_monitor.incidents.shared_queue import shared_text
from ha_monitor.incidents.sighting import Sighting, count_of, names_of
from ha_monitor.text.visible import visible

LAG_LIMIT = 60.0
"""Seconds between an event and its merge."""
MEMORY_LIMIT = 0.9
"""The share of its memory that the store may use."""
ROLLBACK_REPORTED_FOR = 900.0
"""Seconds for which a store that went back is an incident."""
STATUS = "ha-monitor status"


def monitor(facts: Facts) -> Iterator[Sighting]:
    """Each problem of the monitor has its own key."""
    alive = [one for one in facts.instances if one.is_alive]
    missing = [one for one in missing_of(facts.instances) if facts.now - (one.died_at or facts.now) < DAY]
    if missing:
        said = f"{count_of(len(missing), 'instance')} of the monitor died and did not come back: {_names(missing)}"
        began = [one.died_at for one in missing if one.died_at is not None]
        yield _of_fleet("instances", said, len(missing), min(began, default=None))
    idle = [one for one in alive if not one.is_consuming]
    if idle:
        which = "no instance consumes" if len(idle) == len(alive) else f"{_names(idle)} {_do(idle)} not consume"
        yield _of_fleet("consuming", f"{which} Celery's events", len(idle))
    late = [one for one in alive if one.is_consuming and one.lag > LAG_LIMIT]
    if late:
        said = f"events are merged more than {LAG_LIMIT:.0f} s late by {_names(late)}: answers are outdated"
        yield _of_fleet("lag", said, len(late))
    if apart := next((pair for pair in combinations(alive, 2) if _are_at_different_brokers(*pair)), None):
        one, other = sorted(visible(instance.broker) for instance in apart)
        yield Sighting("monitor", "brokers", different_brokers_text(one, other), command="ha-monitor check --online")
    if facts.memory is not None and facts.memory >= MEMORY_LIMIT:
        said = (
            f"Redis has used more than {int(facts.memory * 20) * 5} % of its memory (maxmemory): when it is "
            "full, it refuses writes"
        )
        yield _of_fleet("store", said, 1)
    for name in facts.failing_channels:
        said = f"channel {name} does not take all messages: somebody may not be notified"
        yield Sighting("monitor", f"channel-{name}", said, command=f"ha-monitor notify test {name}")


def store_went_back(facts: Facts) -> Iterator[Sighting]:
    """What was merged shortly before may be missing; instances merge it again as far as they still have it."""
    if facts.went_back_at and 0 <= facts.now - facts.went_back_at < ROLLBACK_REPORTED_FOR:
        said = "Redis went back to an earlier state: what it had confirmed before may be missing"
        yield Sighting("store-went-back", "", said, since=facts.went_back_at, command=STATUS)


def queue_shared(facts: Facts) -> Iterator[Sighting]:
    """Each of two fleets gets only part of the events, so what it reports of tasks and workers may be wrong."""
    queue = facts.event_queue
    if queue is not None and queue.lasts is not None:
        said = shared_text(visible(queue.name), queue.consumers, queue.instances)
        since = facts.now - queue.lasts
        yield Sighting("queue-shared", queue.name, said, queue.others, since, command="ha-monitor check --online")


def missing_of(instances: Sequence[InstanceFacts]) -> list[InstanceFacts]:
    """The instances that died and did not come back under the same name."""
    back = {one.name for one in instances if one.is_alive}
    return list({one.name: one for one in instances if not one.is_alive and one.name not in back}.values())


def _are_at_different_brokers(one: InstanceFacts, other: InstanceFacts) -> bool:
    return one.listener is not None and other.listener is not None and one.listener.is_at_other_broker(other.listener)


def _of_fleet(key: str, summary: str, size: int, since: float | None = None) -> Sighting:
    return Sighting("monitor", key, summary, size, since, command=STATUS)


def _names(instances: Sequence[InstanceFacts]) -> str:
    return names_of(sorted(one.name for one in instances))


def _do(instances: Sequence[InstanceFacts]) -> str:
    return "does" if len(instances) == 1 else "do"
