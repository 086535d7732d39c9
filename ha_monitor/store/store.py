"""The shared record in Redis, as one instance uses it: each method is one atomic call of a script (see `api.py`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ha_monitor.clock import Clock
from ha_monitor.config.schema import StoreSettings
from ha_monitor.store.calls import NotReplicated, ScriptCalls
from ha_monitor.store.damage import repair
from ha_monitor.store.keys import FORMAT, Keys
from ha_monitor.store.outbox import OutboxItem, read_items
from ha_monitor.store.packing import PackedBatch, as_lua_string, json_object
from ha_monitor.store.peers import live_peers
from ha_monitor.store.results import Counting, Peer, Recovered, Rollback, StoreInfo, Takeover, Ticked
from ha_monitor.store.sentinel_url import is_sentinel_url
from ha_monitor.store.server_info import ASK, read_info, store_info

MAX_DUE = 500
"""Entries that one tick makes due at most, so that a backlog cannot block Redis for long."""


class RedisStore(ScriptCalls):
    """The shared record as one instance uses it.

    Everything returned as an `OutboxItem` is also kept in this instance's outbox in Redis until `announced` says that
    it was announced, which the next call tells Redis. After a `StoreUnavailable` the fate of the call is unknown:
    `connect` and `recover`, then repeat it; every call may be repeated.
    """

    def __init__(
        self,
        settings: StoreSettings,
        node_id: str,
        clock: Clock,
        requeue_delay: float = 0.0,
        counting: Counting | None = None,
        *,
        first_look: float | None = None,
    ) -> None:
        """
        :param requeue_delay: seconds for which the broker may keep messages of an instance that vanished.
        :param counting: None to count nothing.
        :param first_look: seconds after which the leader first looks at an open task; None if it never does.
        """
        super().__init__(settings, Keys(settings.prefix, node_id), counting, clock)
        self.served_since = 0
        self._unused_token = 0
        """The token of an entry that was made but not confirmed; 0 if there is none."""
        self._common = {
            "prefix": self.keys.prefix,
            "lease": self._lease_ms(),
            "requeue_delay": int(requeue_delay * 1000),
            "success_ttl": int(settings.success_ttl),
            "detail_ttl": settings.shrinks_after,
            "failure_ttl": int(settings.failure_ttl),
            "worker_ttl": int(settings.worker_ttl),
            "name_wait": int(settings.name_wait * 1000),
            "first_look": None if first_look is None else int(first_look * 1000),
            "counting": self.counts.script_options,
        }

    @property
    def lease_until(self) -> float:
        """When the lease may expire, by this machine's monotonic clock."""
        return self._lease.until

    @property
    def went_back_at(self) -> float:
        """When the store was last found to have gone back to an earlier state, seconds since the epoch; 0 if never."""
        return self._rollbacks.known / 1000

    def take_rollback(self) -> Rollback | None:
        """A rollback that this instance was the first to notice, since this was last asked. Does no I/O."""
        return self._rollbacks.take()

    def repair(self, *, registered: bool) -> list[str]:
        """Set aside foreign values in place of the shared keys; a sentence for each. Raises as `damage.repair` does.

        :param registered: whether this instance has an entry and an outbox.
        """
        return repair(self.run, self.keys, self.token if registered else 0, self.counts.key)

    def register(self, who: dict[str, Any]) -> None:
        """Register this instance with a new token and an empty outbox."""
        asked = self._clock.monotonic()
        options = {
            "who": json.dumps(who),
            "format": str(FORMAT),
            "last_token": str(self.token),
            "unused": str(self._unused_token),
        }
        try:
            token, self.served_since, *rollback = self._call("register", options)
        except NotReplicated as error:
            self._unused_token = error.reply[0]
            raise
        self._progress.start_anew()
        self.counts.connected()  # another instance may have taken over its counts
        self._rollbacks.registered(rollback)
        self._lease_granted(token, asked)

    def recover(self) -> Recovered:
        """Renew the lease under a new token, and return what has not been announced yet. The old token is refused:
        otherwise a call that the network delivers late could add entries to the outbox that nobody would announce.
        """
        asked = self._clock.monotonic()
        try:
            token, first, raw, recovered_until, taken, self.served_since = self._call("recover")
        except NotReplicated as error:
            self._lease_granted(error.reply[0], asked)  # the next attempt continues with this token
            raise
        self._lease_granted(token, asked)
        items = read_items(first, raw, recovered_until=recovered_until)
        return Recovered(items, first + len(raw), [_takeover(report) for report in taken])

    def tick(
        self,
        stats: bytes,
        rejected: Sequence[bytes],
        *,
        eligible: bool = True,
        watermark_age: float | None = None,
        looked_at: float | None = None,
        requeued: bool = False,
    ) -> Ticked:
        """Renew the lease, publish this instance's counters, and fetch what has become due: see `api.Store`."""
        self._connection.verify_primary()
        asked = self._clock.monotonic()
        options = {
            "may_take_over": self._lease.may_take_over(),
            "most": MAX_DUE,
            "eligible": eligible,
            "watermark_age": None if watermark_age is None else int(watermark_age * 1000),
            "looked_after": None if looked_at is None else int(self._lease.since_answer(looked_at) * 1000),
            "requeued": requeued,
            "stats": as_lua_string(stats),
            "rejected": [as_lua_string(sample) for sample in rejected],
            "counts_as": self.counts.name,
            "label_sets_after": self.counts.latest,
            "own_label_sets": self.counts.unpublished(),
        }
        first, raw, next_due, taken, own, leads, step, label_sets = self._call("tick", options)
        self._lease.renewed(asked)
        return Ticked(
            read_items(first, raw, own),
            next_due / 1000 if next_due >= 0 else None,
            [_takeover(report) for report in taken],
            leads > 0,
            leads == 2,
            self._take_trouble(),
            step / 1000,
            self.counts.ticked(label_sets),
        )

    def peers(self) -> list[Peer]:
        """The other instances with a valid lease."""
        return live_peers(self.commands, self.keys, self.token)

    def info(self) -> StoreInfo:
        """Which settings may make Redis lose what it has confirmed, and how many keys it has evicted."""
        by_sentinel, waits = is_sentinel_url(self.settings.url), self.settings.min_replicas > 0
        return store_info(read_info(self.command("EVAL", ASK, 0)), by_sentinel=by_sentinel, waits=waits)

    @property
    def needs_restore(self) -> bool:
        """Whether Redis went back, and this instance has not yet repeated its recent work. Does no I/O."""
        self._recent.store_went_back(self._rollbacks.known)
        return self._recent.must_repeat

    def restore(self) -> list[OutboxItem]:
        """Repeat a part of that; returns what is to be announced of it."""
        items: list[OutboxItem] = []

        def merge(batch: PackedBatch) -> PackedBatch | None:
            options = {"tasks": batch.tasks, "workers": batch.workers, "others": batch.others}
            first, raw, _, _, _, merged = self._call("apply", options)
            items.extend(read_items(first, raw))
            return batch.rest_after(merged)

        self._recent.repeat_some(lambda ids: self._call("restore", {"ids": ids}), merge)
        return items

    def unregister(self) -> int:
        """Give up the lease; others may take over the rest of the outbox at once. Returns the number of its entries."""
        left: int = self._call("unregister")
        self._lease.given_up()
        return left

    def holds_lease(self) -> bool:
        """Whether the lease certainly still holds, by this machine's own clock. Does no I/O."""
        return self._lease.holds()

    def _lease_granted(self, token: int, asked: float) -> None:
        self._lease.granted(token, asked)
        self._named_keys = self.keys.for_scripts(token, self.counts.key)

    def _lease_ms(self) -> int:
        return int(self._lease.duration * 1000)


def _takeover(report: bytes) -> Takeover:
    data = json.loads(report.decode("utf-8", "replace"))
    return Takeover(json_object(data["who"]), max(0, data["at"] - data["seen"]) / 1000, data["entries"])
