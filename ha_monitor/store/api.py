"""What the program needs of the shared record, wherever it is stored: the port between the loop and the store.

`store.py`, `duties.py`, `stuck.py` and `attempts.py` keep it in Redis, `memory/` in this process. Everything above
`store/` knows only this module and the values in `results.py`, `outbox.py`, `record.py` and `counts.py`.

The guarantees on which the loop relies, which every implementation gives (`tests/support/store_contract.py`):

- Merging is atomic: either everything of a call is merged and in the outbox, or nothing is.
- An event counts once, whichever instance merges it and however often. So a call of unknown fate may be repeated.
- What was merged stays in the outbox of its instance until that instance has said that it is announced. If its lease
  ends first, another instance gets the rest, marked as `recovered`.
- The lease has a fencing token, higher than all before. A call with a token that is no longer valid changes nothing.
- At most one instance leads, and only its calls of `LeaderDuties` and `OpenTasks` do anything.

All of it is used by one thread, except `dial`. A call that blocks does so for at most `store.timeout` seconds, and
raises:

- `StoreUnavailable` if the store does not answer, or refuses (`StoreRefused`). The fate of the call is unknown:
  `connect`, `recover`, and repeat it.
- `LeaseLost` if another instance has taken over the outbox, or the store no longer knows this instance. Nothing of the
  call was done: `register` again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from ha_monitor.dialing import Dialed
from ha_monitor.events.decode import Batch
from ha_monitor.store.counts import Counts
from ha_monitor.store.deliveries import Deliveries
from ha_monitor.store.incidents import IncidentChanges
from ha_monitor.store.outbox import OutboxItem
from ha_monitor.store.results import (
    Applied,
    Candidate,
    Candidates,
    Confirmation,
    Peer,
    Recovered,
    Rollback,
    StoreInfo,
    Ticked,
    Watched,
    Watching,
)
from ha_monitor.store.schedules import ScheduleChanges


class Store(Protocol):
    """The shared record as one instance uses it: its lease, its outbox, and the merge.

    Everything returned as an `OutboxItem` stays in the outbox until `announced` says that it was announced.

    Several batches may be in flight before the reply to the first is received. They are merged in that order: if one is
    merged only in part, all later ones are refused. Between the first `send_apply` and the `receive_apply` for the
    last, no call may be made that returns items, such as `tick`: its items would overtake those of the batches.
    """

    @property
    def token(self) -> int:
        """The fencing token of this instance: higher than that of every instance before; 0 before `register`."""

    served_since: int
    """Since when the fleet uses the Redis that this instance is connected to, as a token: since the first instance
    connected to it after its latest start or fail-over. 0 if the fleet used none before; the time of the connection if
    Redis does not say which one it is.
    """

    @property
    def lease_until(self) -> float:
        """When the lease may expire, by this machine's monotonic clock."""

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known. Does no I/O."""

    def dial(self) -> Dialed[None]:
        """Make a connection that is used from when its `use` is called. Blocks, as long as a name server takes. Called
        in a thread of its own, one at a time, while there is no connection.

        :raises StoreUnavailable: if there is no usable store now.
        :raises ConfigurationError: if there never could be one.
        """

    def close(self) -> None:
        """Close the connection, if there is one. Does not block, never raises."""

    def repair(self, *, registered: bool) -> list[str]:
        """Set aside foreign values in the place of shared keys. Blocks.

        :param registered: whether this instance has a lease and an outbox, which are checked, too.
        :returns: a sentence for each key that was set aside.
        :raises StoreRefused: if setting it aside would lose announcements.
        :raises LeaseLost: if it is in the place of this instance's own entry or outbox.
        """

    def register(self, who: dict[str, Any]) -> None:
        """Register this instance with a new token, a lease and an empty outbox. Blocks.

        :param who: what people see of it: `instance`, `host`, `pid`, `version`, `started`.
        """

    def recover(self) -> Recovered:
        """After a broken connection: renew the lease under a new token, and return what is not announced yet, with what
        a tick took over whose reply was lost. Blocks.

        A call of the old connection that arrives late is refused, because of the new token.

        :raises LeaseLost: if another instance took over the outbox.
        """

    def announced(self, upto: int, ids: Sequence[str] = ()) -> None:
        """Note that all items below a sequence number are announced. Does not block: the next call tells the store.

        :param ids: the ids of these events. An event whose id is missing is announced again if the store goes back.
        """

    def send_apply(self, batch: Batch) -> None:
        """Send a batch without waiting for the reply. Returning means nothing yet.

        :raises StoreUnavailable: see above; the batch may be merged or not.
        """

    def answers_within(self, seconds: float) -> bool:
        """Whether a reply for `receive_apply`, or its beginning, has arrived; waits up to so many seconds for it.

        :raises StoreUnavailable: if the connection is broken.
        """

    def receive_apply(self) -> Applied:
        """Wait until the oldest batch in flight is merged, or its first tasks (`Applied.merged`). Blocks. Once it
        returns, what is merged can no longer be lost.

        :raises StoreUnavailable: see above; the batch may be merged or not.
        :raises LeaseLost: the batch is not merged.
        """

    def tick(
        self,
        stats: bytes,
        rejected: Sequence[bytes],
        *,
        eligible: bool,
        watermark_age: float | None,
        looked_at: float | None = None,
        requeued: bool,
    ) -> Ticked:
        """Renew the lease, publish this instance's counters, elect a leader, and fetch what has become due or was left
        by an instance whose lease expired. Blocks. Once it returns, all arguments are published.

        :param stats: counters as JSON, for `ha-monitor status`.
        :param rejected: samples of rejected messages as JSON.
        :param eligible: whether this instance may lead.
        :param watermark_age: age of its watermark in seconds; None if that is not known.
        :param looked_at: when the watermark had that age, or earlier, by the monotonic clock; None for the moment of
            the call. An instance may be stopped in between.
        :param requeued: whether any of its messages were requeued since the last tick that returned.
        """

    def record_outcome(self, upto: int, retries: Sequence[tuple[int, bytes]], dead: Sequence[bytes], keep: int) -> None:
        """Close all items below a sequence number, some of whose handlers failed. Blocks.

        :param retries: (delay in ms, entry) of handlers to be retried; `outbox.retry_entry` makes the entries.
        :param dead: dead letters as JSON; the `keep` newest are kept.
        """

    def flush(self) -> None:
        """Tell the store what has been announced, unless it knows. Blocks in that case."""

    def unregister(self) -> int:
        """Give up the lease; others may take over the rest of the outbox at once. Returns the number of its entries.
        Blocks; does nothing without a lease.
        """

    def holds_lease(self) -> bool:
        """Whether the lease certainly still holds, by this machine's own clock. Does no I/O."""

    @property
    def counts(self) -> CountStore:
        """What this instance has counted."""

    def peers(self) -> list[Peer]:
        """The other instances with a valid lease. Blocks."""

    def info(self) -> StoreInfo:
        """Which settings may make the store lose what it has confirmed, and how many keys it has evicted. Blocks."""

    @property
    def went_back_at(self) -> float:
        """When any instance last found that the store had gone back to an earlier state, as far as the latest call
        says; seconds since the epoch, 0 if never. What was merged before may be missing in it, so what is merged again
        may have been announced before.
        """

    def take_rollback(self) -> Rollback | None:
        """The rollback, once, at the instance that was the first to notice it. Does no I/O."""

    @property
    def is_slow(self) -> bool:
        """Whether the latest call, other than a batch, took so long that the next one should wait for the next turn of
        the loop. Does no I/O.
        """

    @property
    def needs_restore(self) -> bool:
        """Whether the store went back, and this instance has not yet repeated all that it merged and announced lately.
        Does no I/O.
        """

    def restore(self) -> list[OutboxItem]:
        """Repeat a part of that. Blocks. What an instance has announced and reported by a call of this is not announced
        again.

        :returns: what is announced now, and may have been announced before.
        """


SLOW_CALL = 0.4
"""Seconds for a call above which two must not follow each other without a turn of the loop: the store itself is slow,
or too far away to work with.
"""


def nothing() -> None:
    """Do nothing between two calls."""


class CountStore(Protocol):
    """What an instance has counted for its metrics, over all its restarts, and how counts are moved.

    If several calls are made, `keep_alive` is called after each: it keeps alive what must not wait for all of them, and
    may raise as they do. What it counts itself is not lost.
    """

    @property
    def outdated(self) -> bool:
        """Whether the counts must be read again, because a connection was made. Does no I/O."""

    def read(self, keep_alive: Callable[[], None] = nothing) -> Counts:
        """All counts, and the label sets of all instances. Blocks, for many calls."""

    def read_of(self, name: str, keep_alive: Callable[[], None] = nothing) -> Counts:
        """The counts of an instance that is gone. Blocks."""

    def take_changes(self) -> list[Any]:
        """What was counted since the counts were read or this was last called: field, number, field, number, …, each
        number as a number or as text, and an empty text if a field was deleted. Does no I/O.
        """

    def make_room(self, room: int, reserve: int) -> None:
        """Set how many more samples may be added, and how many of these only without a worker label. Does no I/O."""

    def publish(self, label_sets: Sequence[bytes]) -> None:
        """Note label sets that other instances may not know, for the next ticks. Does no I/O."""

    def restore(self, counts: Mapping[bytes, int], keep_alive: Callable[[], None] = nothing) -> None:
        """Raise this instance's counts to what they were before the store went back. Blocks."""

    def move(
        self,
        moves: Sequence[tuple[bytes, bytes]],
        forgotten: Sequence[bytes] = (),
        gone: tuple[str, float] | None = None,
        keep_alive: Callable[[], None] = nothing,
    ) -> bool:
        """Add the numbers of fields to other fields. Blocks, for several calls.

        :param moves: (field, other field), …
        :param forgotten: label sets that are no longer used.
        :param gone: moves the counts of this instance, if it has not been heard of for so many seconds; None for this
            instance's own.
        :returns: False if that instance is not gone.
        """

    def heard(self, within: float) -> list[str]:
        """The workers that any instance heard of within so many seconds. Blocks."""

    def gone(self, after: float) -> list[str]:
        """Some instances that have counted and have not been heard of for so many seconds. Blocks."""


NOTHING_NEW: Mapping[str, str] = {}


class LeaderDuties(Protocol):
    """What the leader does for the whole fleet. Each call blocks, and does nothing if this instance does not lead."""

    def start_anew(self) -> None:
        """Forget the progress, because another instance led meanwhile. Does not block."""

    def watch(
        self,
        watching: Watching,
        queues: Sequence[str],
        *,
        may_declare_lost: bool,
        together: bool = False,
        watermark: tuple[float, float] | None = None,
        consumes: Mapping[str, str] = NOTHING_NEW,
    ) -> Watched | None:
        """Look at the fleet, and announce workers that are lost or back; None if this instance does not lead.

        :param queues: queues of tasks that workers consume.
        :param may_declare_lost: whether it has listened for so long that a worker's silence means something.
        :param together: whether workers that are lost now are announced in one event, because all fell silent at once.
        :param watermark: age of the fleet's watermark, and for how long it has been known, in seconds; None if there is
            none yet. No worker is declared lost for silence after the watermark; an event that came after it was known,
            and claims to be older, is from a clock that is behind.
        :param consumes: the only queue that a worker consumes, or an empty text for several, by nodename, if that is
            new: events of tasks without a known queue are counted there.
        """

    def losses(self, *, report: bool) -> list[OutboxItem]:
        """Compute which events were lost.

        :param report: whether they are announced and counted; if not, only the state for finding them is updated.
        """

    def incidents(self, changes: IncidentChanges) -> list[OutboxItem]:
        """Write the changed incidents, and announce which opened or ended, in one atomic call."""

    def schedules(self, changes: ScheduleChanges) -> bool:
        """Write what was found out about schedules; returns whether all was written: not if this instance does not
        lead.
        """

    @property
    def all_accounted(self) -> bool:
        """Whether `losses` has looked at all processes, so that it starts with the first again. Does no I/O."""


class OpenTasks(Protocol):
    """Tasks that make no progress, as the leader finds and confirms them. Each call blocks."""

    def candidates(self) -> Candidates | None:
        """The tasks to ask about; None if this instance does not lead."""

    def confirm(
        self, required_watermark: int, confirmations: Sequence[tuple[Candidate, Confirmation]]
    ) -> list[OutboxItem] | None:
        """Announce or reconcile tasks that are still as they were found; None if it is too early for that.

        :param required_watermark: when the questions were answered and the queue of events was empty, in the same unit
            as `Candidates.at`: all instances must have merged what they had received by then.
        """


class Attempts(Protocol):
    """How often the handling of a redelivered message has begun, over all instances. Each call blocks.

    A message is identified by a name.
    """

    def begin(self, names: Sequence[str], below: int) -> list[int]:
        """Note that the handling of these messages begins, for each that has begun fewer than `below` times.

        :returns: for each message how often its handling had begun before.
        """

    def succeeded(self, names: Sequence[str]) -> None:
        """The messages were merged: their attempts no longer matter."""

    def set_aside(self, name: str, entry: bytes) -> None:
        """Keep a report on a message, as JSON; only the newest are kept."""


class SharedRecord(NamedTuple):
    """All that one instance needs of the shared record. Only the loop may use it, except `attempts`."""

    store: Store
    duties: LeaderDuties
    open_tasks: OpenTasks
    attempts: Attempts
    deliveries: Deliveries
