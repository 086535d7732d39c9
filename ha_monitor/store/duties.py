"""What the leader does with the shared record: each method is one atomic call that only the leader's token may make."""

from __future__ import annotations

from ha_monitor.store.outbox import OutboxItem, read_items
from ha_monitor.store.results import Watched, Watching, WorkerState
from ha_monitor.store.store import Store


class Duties:
    """The leader's look at the fleet and at its workers. Tasks that go no further are in `stuck.py`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def watch(self, watching: Watching, queues: list[str], *, may_judge: bool) -> Watched | None:
        """Look at the fleet, and announce workers that are lost or back; None if this instance does not lead.

        :param queues: queues of tasks that workers consume.
        :param may_judge: whether it has listened for so long that a worker's silence means something.
        """
        keys = self._store.keys
        reply = self._store.run_duty(
            "watch",
            [
                *(keys.workers, keys.liveness, keys.waiting, keys.retries, keys.dead_letters, keys.queues),
                *(keys.stuck, keys.orphaned),
            ],
            [
                int(watching.late_after * 1000),
                int(watching.lost_after * 1000),
                may_judge,
                int(self._store.settings.worker_ttl),
            ],
            queues,
        )
        if reply is None:
            return None
        first, raw, (instances, waiting, retries, dead_letters, stuck, orphaned), workers, known = reply
        return Watched(
            read_items(first, raw),
            instances,
            waiting,
            retries,
            dead_letters,
            [
                WorkerState(name.decode("utf-8", "replace"), state.decode(), None if active < 0 else active)
                for name, state, active in workers
            ],
            [name.decode("utf-8", "replace") for name in known],
            stuck,
            orphaned,
        )

    def losses(self, *, report: bool = True) -> list[OutboxItem]:
        """Find out what was lost; nothing if this instance does not lead.

        :param report: whether it is announced and counted; else what is kept to find it is only brought up to date.
        """
        keys, settings = self._store.keys, self._store.settings
        reply = self._store.run_duty(
            "losses",
            [keys.processes, keys.takeovers, keys.returned, self._store.counts_key],
            [
                int(self._store.held * 1000),
                int(settings.worker_ttl),
                self._store.counting,
                int(settings.failure_ttl),
                report,
            ],
        )
        return [] if reply is None else read_items(*reply)
