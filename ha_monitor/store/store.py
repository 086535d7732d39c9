"""The shared record in Redis, as one instance uses it: each method is one atomic call of a script (see `api.py`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ha_monitor.clock import Clock
from ha_monitor.config.schema import StoreSettings
from ha_monitor.errors import LeaseLost, StoreUnavailable
from ha_monitor.events.decode import Batch
from ha_monitor.store.connection import StoreConnection, is_sentinel_url
from ha_monitor.store.counts import Counts
from ha_monitor.store.damage import repair
from ha_monitor.store.keys import FORMAT, Keys
from ha_monitor.store.lease import Lease, RollbackMemory
from ha_monitor.store.outbox import OutboxProgress, read_items
from ha_monitor.store.packing import as_lua_string, json_object
from ha_monitor.store.results import Applied, Counting, Peer, Recovered, Rollback, Takeover, Ticked
from ha_monitor.store.scripts import read_scripts
from ha_monitor.store.server_info import read_info, risks_of
from ha_monitor.text.visible import visible

MOST_DUE = 500
"""Entries that one tick makes due at most, so that a backlog cannot block Redis for long."""
MOST_PEERS = 100
"""Other instances that are looked at."""
COUNTS_AT_ONCE = 1000
"""Counts that one call restores."""
NOTHING: Mapping[str, Any] = MappingProxyType({})


class NotReplicated(StoreUnavailable):
    """A call was made, and too few replicas have what it wrote."""

    def __init__(self, replicas: int, needed: int, reply: Any) -> None:
        """:param reply: that of the script."""
        super().__init__(f"Redis: {replicas} of {needed} replicas have the last write (store.min_replicas)")
        self.reply = reply


class RedisStore:
    """The shared record as one instance uses it.

    Everything returned as an `OutboxItem` is also kept in this instance's outbox in Redis until the instance
    has said by `announced` that it is out; that travels with the next call. After any `StoreUnavailable` the
    fate of the call is unknown: `connect` and `recover`, then repeat it; every call may be repeated.
    Between `send_apply` and `receive_apply` no other call may be made.
    """

    def __init__(
        self,
        settings: StoreSettings,
        node_id: str,
        clock: Clock,
        held: float = 0.0,
        counting: Counting | None = None,
        *,
        first_look: float | None = None,
    ) -> None:
        """
        :param held: seconds for which the broker may keep messages of an instance that vanished.
        :param counting: None to count nothing.
        :param first_look: seconds after which the leader first looks at an open task; None if it never does.
        """
        self.settings = settings
        self._clock = clock
        self.keys = Keys(settings.prefix, node_id)
        self._connection = StoreConnection(settings, clock)
        self._scripts = read_scripts()
        self._lease = Lease(clock, settings.lease)
        self._progress = OutboxProgress()
        self._rollbacks = RollbackMemory()
        self._trouble = ""
        """What calls did without of which nothing was told yet."""
        self._counts_changed = True
        self.counts_key = self.keys.counts(counting.name if counting else "")
        self._common = {
            "prefix": self.keys.prefix,
            "lease": self._lease_ms(),
            "held": int(held * 1000),
            "success_ttl": int(settings.success_ttl),
            "failure_ttl": int(settings.failure_ttl),
            "worker_ttl": int(settings.worker_ttl),
            "name_wait": int(settings.name_wait * 1000),
            "first_look": None if first_look is None else int(first_look * 1000),
            "counting": None
            if counting is None
            else {"max_series": counting.max_series, "buckets": counting.buckets, "per_worker": counting.per_worker},
        }
        """What each script that wants it is told, by the name of the option."""
        self._named_keys = self.keys.for_scripts(0, self.counts_key)

    @property
    def token(self) -> int:
        """The fencing token of this instance: higher than that of every instance before; 0 before `register`."""
        return self._lease.token

    @property
    def lease_until(self) -> float:
        """When the lease may end, by this machine's monotonic clock."""
        return self._lease.until

    @property
    def connected(self) -> bool:
        return self._connection.connected

    @property
    def counts_changed(self) -> bool:
        """Whether something may have been counted since `counts` was called."""
        return self._counts_changed

    @property
    def went_back_at(self) -> float:
        """When the store was last found to have gone back to an earlier state, seconds since the epoch; 0 if never."""
        return self._rollbacks.known / 1000

    def take_rollback(self) -> Rollback | None:
        """What this instance was the first to notice since it was asked last. Asks nobody."""
        return self._rollbacks.take()

    def connect(self) -> None:
        """Connect, and hand the scripts to Redis, which forgets them at a restart.

        :raises StoreUnavailable: if Redis is away. :raises ConfigurationError: if it never could be there.
        """
        self._connection.connect()
        self._counts_changed = True  # by a call whose reply was lost
        # One round trip for all: a distant Redis would take longer than the lease for one each.
        for script in self._scripts.values():
            self._connection.send("SCRIPT", "LOAD", script.source)
        for _ in self._scripts:
            self._connection.receive()

    def close(self) -> None:
        self._connection.close()

    def repair(self, *, registered: bool) -> list[str]:
        """Set aside what is in place of the shared keys and is not the program's; a sentence for each. Raises as
        `damage.repair` does.

        :param registered: whether this instance has an entry and an outbox.
        """
        return repair(self.run, self.keys, self.token if registered else 0, self.counts_key)

    def register(self, who: dict[str, Any]) -> None:
        """Enter this instance, with a new token and an empty outbox.

        :param who: what people should see of it: `instance`, `host`, `pid`, `version`, `started`.
        """
        asked = self._clock.monotonic()
        token, *rollback = self._call(
            "register", {"who": json.dumps(who), "format": str(FORMAT), "last_token": self.token}
        )
        self._progress.start_anew()
        self._rollbacks.registered(rollback)
        self._lease_granted(token, asked)

    def recover(self) -> Recovered:
        """After a broken connection: renew the lease under a new token and return what has not been announced yet.

        The new token shuts out a call of the old connection that the network delivers late: what that would put
        into the outbox, nobody would hear of.

        :raises LeaseLost: if another instance took the outbox over; `register` anew then.
        """
        asked = self._clock.monotonic()
        try:
            token, first, raw = self._call("recover")
        except NotReplicated as error:
            self._lease_granted(error.reply[0], asked)  # with which the next attempt goes on
            raise
        self._lease_granted(token, asked)
        return Recovered(read_items(first, raw), first + len(raw))

    def announced(self, upto: int) -> None:
        """Note that all items below a sequence number are out. Redis hears of it with the next call."""
        self._progress.announce(upto)

    def send_apply(self, batch: Batch) -> None:
        """Hand a batch to Redis, without waiting for it.

        :raises StoreUnavailable: if the connection breaks.
        """
        tasks = list(batch.tasks.items())
        self._send("apply", {"tasks": tasks, "workers": batch.workers, "others": batch.others})

    def receive_apply(self) -> Applied:
        """Wait until the batch handed over is merged, or its first tasks, if their records are large. Returning means
        that what is merged cannot be lost any more.

        :raises StoreUnavailable: if the connection breaks; the batch may be merged or not.
        :raises LeaseLost: if another instance took the outbox over; the batch is not merged.
        """
        first, raw, new, repeated, waiting, merged = self._receive("apply")
        return Applied(read_items(first, raw), new, repeated, waiting, self._take_trouble(), merged)

    def tick(
        self,
        stats: bytes,
        rejected: Sequence[bytes],
        *,
        eligible: bool = True,
        watermark_age: float | None = None,
        requeued: bool = False,
    ) -> Ticked:
        """Renew the lease, publish this instance's counters, and fetch what has become due.

        :param stats: counters as JSON, for `ha-monitor status`.
        :param rejected: samples of rejected messages as JSON.
        :param eligible: whether this instance may lead.
        :param watermark_age: age of its watermark in seconds; None if that is not known.
        :param requeued: whether messages of it were requeued since the last tick.
        """
        self._connection.verify_primary()
        asked = self._clock.monotonic()
        options = {
            "may_take_over": self._lease.may_take_over(),
            "most": MOST_DUE,
            "eligible": eligible,
            "watermark_age": None if watermark_age is None else int(watermark_age * 1000),
            "requeued": requeued,
            "stats": as_lua_string(stats),
            "rejected": [as_lua_string(sample) for sample in rejected],
        }
        first, raw, next_due, taken, own, leads, step = self._call("tick", options)
        self._lease.renewed(asked)
        return Ticked(
            read_items(first, raw, own),
            next_due / 1000 if next_due >= 0 else None,
            [_takeover(report) for report in taken],
            leads > 0,
            leads == 2,
            self._take_trouble(),
            step / 1000,
        )

    def run(self, script: str, options: Mapping[str, Any], more_keys: Sequence[str] = ()) -> Any:
        """Run a script, and return its reply: of one of the leader's, None if this instance does not lead.

        :param options: what it is told besides what the store tells all, by name.
        :param more_keys: those that it takes besides the ones that it names.
        """
        return self._call(script, options, more_keys)

    def command(self, *command: Any) -> Any:
        """Run a command, and return its reply."""
        return self._connection.call(*command)

    def peers(self) -> list[Peer]:
        """The other instances whose lease holds."""
        seconds, microseconds = self.command("TIME")
        now = int(seconds) * 1000 + int(microseconds) // 1000
        others = []
        for token in self.command("ZRANGEBYSCORE", self.keys.leases, now, "+inf", "LIMIT", 0, MOST_PEERS):
            if token.isdigit() and int(token) != self.token:
                stats = self.command("HGET", self.keys.instance(int(token)), "stats")
                others.append(Peer(int(token), json_object(stats)))
        return others

    def risks(self) -> list[str]:
        """A sentence for each setting of Redis under which it may lose what it has confirmed."""
        return risks_of(
            read_info(self.command("INFO")),
            by_sentinel=is_sentinel_url(self.settings.url),
            waits=self.settings.min_replicas > 0,
        )

    def counts(self) -> Counts:
        """What this instance has counted, over all its starts."""
        found = Counts(self._connection.call("HGETALL", self.counts_key))
        self._counts_changed = False
        return found

    def restore_counts(self, counts: Mapping[bytes, int]) -> None:
        """Raise what this instance has counted to what it had counted before the store went back."""
        rows = [(as_lua_string(field), str(number)) for field, number in counts.items()]
        for first in range(0, len(rows), COUNTS_AT_ONCE):
            self._call("restore_counts", {"counts": rows[first : first + COUNTS_AT_ONCE]})

    def record_outcome(self, upto: int, retries: Sequence[tuple[int, bytes]], dead: Sequence[bytes], keep: int) -> None:
        """Close all items below a sequence number, some of whose handlers failed.

        :param retries: (delay in ms, entry) of handlers to be called again.
        :param dead: dead letters as JSON; the `keep` newest are kept.
        """
        options = {
            "announced": upto,
            "failed": [(delay, as_lua_string(entry)) for delay, entry in retries],
            "dead": [as_lua_string(letter) for letter in dead],
            "most_dead": keep,
        }
        self._call("record_outcome", options)
        self._progress.confirm_upto(upto)

    def flush(self) -> None:
        """Tell Redis what has been announced, if it does not know."""
        if not self._progress.is_confirmed:
            self.record_outcome(self._progress.announced, [], [], 1_000_000)

    def unregister(self) -> int:
        """Give up the lease; what is left in the outbox is free for others at once. Returns how much that is."""
        left: int = self._call("unregister")
        self._lease.given_up()
        return left

    def holds_lease(self) -> bool:
        """Whether the lease certainly still runs, by this machine's own clock. Asks nobody."""
        return self._lease.holds()

    def _lease_granted(self, token: int, asked: float) -> None:
        self._lease.granted(token, asked)
        self._named_keys = self.keys.for_scripts(token, self.counts_key)

    def _lease_ms(self) -> int:
        return int(self._lease.duration * 1000)

    def _call(self, name: str, options: Mapping[str, Any] = NOTHING, more_keys: Sequence[str] = ()) -> Any:
        self._send(name, options, more_keys)
        return self._receive(name)

    def _send(self, name: str, options: Mapping[str, Any], more_keys: Sequence[str] = ()) -> None:
        self._progress.tell()
        script = self._scripts[name]
        common = {
            **self._common,
            "token": str(self.token),
            "announced": self._progress.announced,
            "calls": self._rollbacks.calls,
            "known_rollback": self._rollbacks.known,
        }
        arguments = script.arguments(self._named_keys, common, options, more_keys)
        self._connection.send("EVALSHA", script.sha, *arguments)
        if self._is_replicated(name):
            self._connection.send("WAIT", self.settings.min_replicas, int(self.settings.timeout * 500))

    def _receive(self, name: str) -> Any:
        try:
            reply = self._connection.receive()
        except LeaseLost:
            self._replicas_with(name)
            raise
        if (replicas := self._replicas_with(name)) < self.settings.min_replicas and self._is_replicated(name):
            # Not confirmed: it is as if the call had not returned.
            self._connection.close()
            raise NotReplicated(replicas, self.settings.min_replicas, reply[-1])
        self._progress.confirm()
        self._lease.replied()
        if self._scripts[name].is_under_lease:
            trouble, has_counted, call, reply = reply
            self._rollbacks.confirmed(call)
            self._counts_changed = self._counts_changed or has_counted == 1
            self._trouble = self._trouble or visible(trouble.decode("utf-8", "replace"))
        return reply

    def _is_replicated(self, name: str) -> bool:
        """Whether a call of a script counts as made only once replicas have what it wrote."""
        return self.settings.min_replicas > 0 and self._scripts[name].is_under_lease

    def _replicas_with(self, name: str) -> int:
        """How many replicas have what a call wrote; 0 if that was not asked."""
        return int(self._connection.receive()) if self._is_replicated(name) else 0

    def _take_trouble(self) -> str:
        """What this call, or one since the last that could tell of it, did without."""
        trouble, self._trouble = self._trouble, ""
        return trouble


def _takeover(report: bytes) -> Takeover:
    data = json.loads(report.decode("utf-8", "replace"))
    return Takeover(json_object(data["who"]), max(0, data["at"] - data["seen"]) / 1000, data["entries"])
