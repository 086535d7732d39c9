"""Queues in which tasks wait too long, and queues that nobody consumes."""

from __future__ import annotations

from collections.abc import Iterator

from ha_monitor.incidents.facts import Facts
from ha_monitor.incidents.sighting import Sighting, command_of, count_of
from ha_monitor.text.patterns import quoted
from ha_monitor.text.visible import visible

LATE_AFTER = 300.0
"""Seconds that the oldest task of a queue may have waited."""


def queue_late(facts: Facts) -> Iterator[Sighting]:
    """Works only where producers send `task-sent`."""
    for queue in facts.queues:
        if queue.oldest is not None and facts.now - queue.oldest > LATE_AFTER:
            yield Sighting(
                "queue-late",
                queue.name,
                f"{count_of(queue.waiting, 'task')} wait{'s' if queue.waiting == 1 else ''} in queue "
                f"{visible(queue.name)}, the oldest for more than {LATE_AFTER / 60:.0f} minutes",
                size=queue.waiting,
                since=queue.oldest + LATE_AFTER,
                command=command_of("queues", quoted(queue.name)),
            )


def no_consumer(facts: Facts) -> Iterator[Sighting]:
    """According to the broker and the workers."""
    for queue in facts.survey or ():
        if queue.length > 0 and not queue.is_consumed:
            yield Sighting(
                "no-consumer",
                queue.name,
                f"no worker consumes queue {visible(queue.name)}, in which {count_of(queue.length, 'message')} "
                f"wait{'s' if queue.length == 1 else ''}",
                size=queue.length,
                command=command_of("queues", quoted(queue.name)),
            )
