"""How one instance calls the scripts: those that merge batches, of which several may be in flight, and all others."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ha_monitor.clock import Clock
from ha_monitor.config.schema import StoreSettings
from ha_monitor.dialing import Dialed
from ha_monitor.errors import LeaseLost, StoreUnavailable
from ha_monitor.events.decode import Batch
from ha_monitor.store.api import SLOW_CALL
from ha_monitor.store.connection import StoreConnection
from ha_monitor.store.counting import RedisCounts
from ha_monitor.store.keys import Keys
from ha_monitor.store.outbox import read_items
from ha_monitor.store.own_state import Lease, OutboxProgress, RecentWork, RollbackMemory
from ha_monitor.store.packing import PackedBatch, as_lua_string
from ha_monitor.store.results import Applied, Counting
from ha_monitor.store.scripts import read_scripts
from ha_monitor.text.visible import visible

DISTANT_CALL = 0.05
"""Seconds above which a call takes too long to make several in a row."""
NOTHING: Mapping[str, Any] = MappingProxyType({})


class NotReplicated(StoreUnavailable):
    """A call was made, but too few replicas have what it wrote."""

    def __init__(self, replicas: int, needed: int, reply: Any) -> None:
        """:param reply: the script's."""
        super().__init__(f"Redis: {replicas} of {needed} replicas have the last write (store.min_replicas)")
        self.reply = reply


class ScriptCalls:
    """The connection; what each call sends about this instance, and keeps of its reply; and the path of a batch, which
    is sent, merged and announced. A subclass adds the calls of the other scripts.
    """

    _common: Mapping[str, Any]
    """The common options of the scripts, by name."""

    def __init__(self, settings: StoreSettings, keys: Keys, counting: Counting | None, clock: Clock) -> None:
        """:param counting: None to count nothing."""
        self.settings = settings
        self.keys = keys
        self.counts = RedisCounts(self, keys, counting)
        self._clock = clock
        self._connection = self._dialed = StoreConnection(settings, clock)
        self._scripts = read_scripts()
        self._named_keys = keys.for_scripts(0, self.counts.key)
        self._lease = Lease(clock, settings.lease)
        self._progress = OutboxProgress()
        self._rollbacks = RollbackMemory()
        self._recent: RecentWork[PackedBatch] = RecentWork(clock)
        self._sent: deque[PackedBatch] = deque()
        """Batches in flight, whose replies were not read."""
        self._applied: deque[Any] = deque()
        """Replies to batches, or their errors, that had to be read before the reply to another call."""
        self._replied_at = 0.0
        """When the latest reply came, or when the calls in flight began, by the monotonic clock."""
        self._trouble = ""
        """What Redis refused in calls since it was last reported."""
        self.is_far = False
        """Whether the latest call, other than a batch, took so long that several must not be made in a row."""
        self.is_slow = False
        """See `api.Store`."""

    @property
    def token(self) -> int:
        """The fencing token of this instance: higher than that of every instance before; 0 before `register`."""
        return self._lease.token

    @property
    def connected(self) -> bool:
        return self._connection.connected

    def dial(self) -> Dialed[None]:
        """Connect, and load the scripts into Redis, which forgets them at a restart. May be called in another thread.

        :raises StoreUnavailable: if Redis is unavailable. :raises ConfigurationError: if it could never be available.
        """
        connection = self._dialed = self._dialed.another()
        connection.connect()
        # One round trip for all: with a distant Redis, one for each would take longer than the lease.
        for script in self._scripts.values():
            connection.send("SCRIPT", "LOAD", script.source)
        for _ in self._scripts:
            connection.receive()

        def use() -> None:
            self._connection.close()
            self._connection = connection
            self._progress.disconnected()
            self._sent.clear()
            self._applied.clear()
            self.counts.connected()

        return Dialed(use, connection.close)

    def connect(self) -> None:
        """Dial and use the connection at once, for callers that have no loop to keep running meanwhile."""
        self.dial().use()

    def close(self) -> None:
        self._connection.close()

    def send_apply(self, batch: Batch) -> None:
        """Send a batch to Redis, without waiting for the reply."""
        sent = PackedBatch.of(batch)
        if not self._sent:
            self._replied_at = self._clock.monotonic()
        self._send("apply", {"tasks": sent.tasks, "workers": sent.workers, "others": sent.others})
        self._sent.append(sent)

    def answers_within(self, seconds: float) -> bool:
        """Whether there is a reply for `receive_apply`; waits up to so many seconds for it."""
        if self._applied or self._connection.has_reply(seconds):
            return True
        if self._sent and self._clock.monotonic() - self._replied_at > self.settings.timeout:
            self._connection.time_out()
        return False

    def receive_apply(self) -> Applied:
        """Wait until the oldest batch in flight is merged, or only its first tasks if their records are large."""
        first, raw, new, repeated, waiting, merged = self._next_applied()
        return Applied(read_items(first, raw), new, repeated, waiting, self._take_trouble(), merged)

    def announced(self, upto: int, ids: Sequence[str] = ()) -> None:
        """Note that all items below a sequence number are announced, among them these events."""
        self._progress.announce(upto)
        self._recent.announced(ids)

    def record_outcome(self, upto: int, retries: Sequence[tuple[int, bytes]], dead: Sequence[bytes], keep: int) -> None:
        """Close all items below a sequence number, some of whose handlers failed: see `api.Store`."""
        options = {
            "announced": upto,
            "failed": [(delay, as_lua_string(entry)) for delay, entry in retries],
            "dead": [as_lua_string(letter) for letter in dead],
            "most_dead": keep,
        }
        self._call("record_outcome", options)
        self._progress.confirm_upto(upto)

    def flush(self) -> None:
        """Tell Redis what has been announced, unless it knows."""
        if not self._progress.is_confirmed:
            self.record_outcome(self._progress.announced, [], [], 1_000_000)

    def run(self, script: str, options: Mapping[str, Any], more_keys: Sequence[str] = ()) -> Any:
        """Run a script, and return its reply: None from a script of the leader if this instance does not lead.

        :param options: its options besides the common ones, by name.
        :param more_keys: keys besides those that it names.
        """
        return self._call(script, options, more_keys)

    def command(self, *command: Any) -> Any:
        """Run a command, and return its reply."""
        return self.commands(command)[0]

    def commands(self, *commands: Sequence[Any]) -> list[Any]:
        """Run commands in one round trip, and return their replies."""
        self._read_all_applied()
        return self._connection.call_all(*commands)

    def _call(self, name: str, options: Mapping[str, Any] = NOTHING, more_keys: Sequence[str] = ()) -> Any:
        self._send(name, options, more_keys)
        self._read_all_applied()
        asked = self._clock.monotonic()
        reply = self._receive(name)
        took = self._clock.monotonic() - asked
        self.is_far, self.is_slow = took > DISTANT_CALL, took > SLOW_CALL
        return reply

    def _next_applied(self) -> Any:
        """The reply to the oldest batch whose reply was not returned yet. Raises the reply if it is an error."""
        if not self._applied:
            self._read_applied()
        reply = self._applied.popleft()
        if isinstance(reply, LeaseLost):
            raise reply
        return reply

    def _read_all_applied(self) -> None:
        while self._sent:
            self._read_applied()

    def _read_applied(self) -> None:
        """Read the reply to the oldest batch in flight: Redis answers in order."""
        batch = self._sent.popleft()
        try:
            reply = self._receive("apply")
        except LeaseLost as error:
            self._applied.append(error)
            return
        self._applied.append(reply)
        if batch.size and reply[-1] >= 0:  # otherwise nothing of it is merged, and it is sent again
            self._recent.merged(batch, batch.size)

    def _send(self, name: str, options: Mapping[str, Any], more_keys: Sequence[str] = ()) -> None:
        self._progress.sent()
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
            self._progress.refused()
            self._replicas_with(name)
            raise
        if (replicas := self._replicas_with(name)) < self.settings.min_replicas and self._is_replicated(name):
            # Not confirmed: treated as if the call had not returned.
            self._connection.close()
            raise NotReplicated(
                replicas, self.settings.min_replicas, reply[-1] if self._scripts[name].is_under_lease else reply
            )
        self._replied_at = self._clock.monotonic()
        self._progress.confirm()
        self._lease.replied()
        if self._scripts[name].is_under_lease:
            trouble, counted, call, reply = reply
            self._rollbacks.confirmed(call)
            self.counts.replied(counted)
            self._trouble = self._trouble or visible(trouble.decode("utf-8", "replace"))
        return reply

    def _is_replicated(self, name: str) -> bool:
        """Whether a call of a script is confirmed only once replicas have what it wrote; also the call that grants a
        lease.
        """
        return self.settings.min_replicas > 0 and (self._scripts[name].is_under_lease or name == "register")

    def _replicas_with(self, name: str) -> int:
        """How many replicas have what a call wrote; 0 if replicas were not asked."""
        return int(self._connection.receive()) if self._is_replicated(name) else 0

    def _take_trouble(self) -> str:
        """What Redis refused in this call, or in one since the last that could report it."""
        trouble, self._trouble = self._trouble, ""
        return trouble
