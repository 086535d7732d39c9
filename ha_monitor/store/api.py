"""What the program asks of the shared record, whatever keeps it: the port between the loop and the store.

`store.py`, `duties.py`, `stuck.py` and `attempts.py` keep it in Redis, `memory/` in this process. Everything above
`store/` knows this module, the values in `results.py`, `outbox.py`, `record.py` and `counts.py`, and no more.

The guarantees that the loop leans on, which every implementation has (`tests/support/store_contract.py`):

- Merging is atomic: of one call either all is merged and in the outbox, or nothing is.
- An event counts once, whoever merges it and however often. So a call of unknown fate may always be repeated.
- What was merged stays in the outbox of its instance until that instance has said that it is announced. When its lease
  ends first, another instance gets what is left, marked as `recovered`.
- The lease goes with a token, higher than all before. A call with a token that is no longer valid changes nothing.
- At most one instance leads, and only its calls of `LeaderDuties` and `OpenTasks` do anything.

All of it is used by one thread, `dial` apart. Whatever else blocks does so for at most `store.timeout` seconds, and
raises:

- `StoreUnavailable` if the store does not answer, or refuses (`StoreRefused`). The fate of the call is unknown:
  `connect`, `recover`, and repeat it.
- `LeaseLost` if another instance has taken the outbox over, or the store does not know this one any more. Nothing of
  the call was done: `register` anew.
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

    Everything returned as an `OutboxItem` stays in the outbox until `announced` says that it is out.

    Several batches may be handed over before the reply to the first is received. They are merged in that order: if one
    is merged in part only, all those behind it are refused. Between the first `send_apply` and the `receive_apply` for
    the last, no call may be made that returns items, such as `tick`: they would come before theirs.
    """

    @property
    def token(self) -> int:
        """The fencing token of this instance: higher than that of every instance before; 0 before `register`."""

    @property
    def lease_until(self) -> float:
        """When the lease may end, by this machine's monotonic clock."""

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known. Asks nobody."""

    def dial(self) -> Dialed[None]:
        """Make a connection that is used once its `use` is called. Blocks, as long as a name server takes. Called in a
        thread of its own, one at a time, while there is no connection.

        :raises StoreUnavailable: if there is no usable store now.
        :raises ConfigurationError: if there never could be one.
        """

    def close(self) -> None:
        """Close the connection, if there is one. Does not block, never raises."""

    def repair(self, *, registered: bool) -> list[str]:
        """Set aside what is in the place of something shared and is not of the program's making. Blocks.

        :param registered: whether this instance has a lease and an outbox, which are looked at, too.
        :returns: a sentence for each thing that was set aside.
        :raises StoreRefused: if announcements would be lost without it.
        :raises LeaseLost: if it is in the place of what is this instance's own.
        """

    def register(self, who: dict[str, Any]) -> None:
        """Enter this instance, with a new token, a lease and an empty outbox. Blocks.

        :param who: what people should see of it: `instance`, `host`, `pid`, `version`, `started`.
        """

    def recover(self) -> Recovered:
        """After a broken connection: renew the lease under a new token, and return what is not announced yet, with what
        a tick took over whose reply was lost. Blocks.

        The new token shuts out a call of the old connection that arrives late.

        :raises LeaseLost: if another instance took the outbox over.
        """

    def announced(self, upto: int, ids: Sequence[str] = ()) -> None:
        """Note that all items below a sequence number are out. Does not block: the next call carries it.

        :param ids: of the events among them. One without is announced again if the store goes back.
        """

    def send_apply(self, batch: Batch) -> None:
        """Hand a batch over, without waiting for it. Returning means nothing yet.

        :raises StoreUnavailable: as said above; the batch may be merged or not.
        """

    def answers_within(self, seconds: float) -> bool:
        """Whether there is a reply, or the beginning of one, for `receive_apply`; waits up to so many seconds for it.

        :raises StoreUnavailable: if the connection is broken.
        """

    def receive_apply(self) -> Applied:
        """Wait until the oldest batch handed over is merged, or its first tasks (`Applied.merged`). Blocks. Returning
        means that what is merged cannot be lost any more.

        :raises StoreUnavailable: as said above; the batch may be merged or not.
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
        behind by an instance whose lease ended. Blocks. Returning means that all arguments are published.

        :param stats: counters as JSON, for `ha-monitor status`.
        :param rejected: samples of rejected messages as JSON.
        :param eligible: whether this instance may lead.
        :param watermark_age: age of its watermark in seconds; None if that is not known.
        :param looked_at: when it was so old, or earlier, by the monotonic clock; None for the moment of the call. An
            instance may be stopped in between.
        :param requeued: whether messages of it were requeued since the last tick that returned.
        """

    def record_outcome(self, upto: int, retries: Sequence[tuple[int, bytes]], dead: Sequence[bytes], keep: int) -> None:
        """Close all items below a sequence number, some of whose handlers failed. Blocks.

        :param retries: (delay in ms, entry) of handlers to be called again; `outbox.retry_entry` makes the entries.
        :param dead: dead letters as JSON; the `keep` newest are kept.
        """

    def flush(self) -> None:
        """Make known what has been announced, if it is not known yet. Blocks if so."""

    def unregister(self) -> int:
        """Give up the lease; what is left in the outbox is free for others at once. Returns how much that is. Blocks;
        without a lease it does nothing.
        """

    def holds_lease(self) -> bool:
        """Whether the lease certainly still runs, by this machine's own clock. Asks nobody."""

    @property
    def counts(self) -> CountStore:
        """What this instance has counted."""

    def peers(self) -> list[Peer]:
        """The other instances whose lease holds. Blocks."""

    def info(self) -> StoreInfo:
        """Under which settings the store may lose what it has confirmed, and what it has dropped. Blocks."""

    @property
    def went_back_at(self) -> float:
        """When the store was last found to have gone back to an earlier state, whoever found it, as far as the latest
        call says; seconds since the epoch, 0 if never. What was merged until then may be missing in it, so what is
        merged again may have been announced before.
        """

    def take_rollback(self) -> Rollback | None:
        """The same, once, at the instance that was the first to notice it. Asks nobody."""

    @property
    def is_slow(self) -> bool:
        """Whether the latest call, batches apart, took so long that another one is for the next turn of the loop. Asks
        nobody.
        """

    @property
    def lacks_work(self) -> bool:
        """Whether the store went back, and is yet to get again what this instance merged and announced lately. Asks
        nobody.
        """

    def restore(self) -> list[OutboxItem]:
        """Hand over a part of that. Blocks. Nothing that an instance has announced, and said so by a call of this, is
        announced again.

        :returns: what is announced now, and may have been announced before.
        """


SLOW_CALL = 0.4
"""Seconds that one call takes of a store of which no two may be waited for in a row: of the store itself, where one
call follows another, or of a way so long that it is none to work with.
"""


def nothing() -> None:
    """Nothing goes on between two calls."""


class CountStore(Protocol):
    """What an instance has counted for its metrics, over all its starts, and what it moves of that.

    Where several calls are made, what is given as `between` is called after each: it keeps alive what must not wait for
    all of them, and may raise as they do. What it counts itself is not forgotten.
    """

    @property
    def outdated(self) -> bool:
        """Whether it must be read: since a connection was made. Asks nobody."""

    def read(self, between: Callable[[], None] = nothing) -> Counts:
        """All of it, and the label sets of all instances. Blocks, for many calls."""

    def read_of(self, name: str, between: Callable[[], None] = nothing) -> Counts:
        """What an instance that is gone has counted. Blocks."""

    def take_changes(self) -> list[Any]:
        """What was counted since it was read or since this was asked last: field, number, field, number, …, each number
        as such or as text, and an empty text where a field is gone. Asks nobody.
        """

    def make_room(self, room: int, reserve: int) -> None:
        """How many more samples may be added from now on, and how many of these only without the label of a worker.
        Asks nobody.
        """

    def tell(self, label_sets: Sequence[bytes]) -> None:
        """Note label sets that other instances may not know, for the next ticks. Asks nobody."""

    def restore(self, counts: Mapping[bytes, int], between: Callable[[], None] = nothing) -> None:
        """Raise what this instance has counted to what it had counted before the store went back. Blocks."""

    def move(
        self,
        moves: Sequence[tuple[bytes, bytes]],
        forgotten: Sequence[bytes] = (),
        gone: tuple[str, float] | None = None,
        between: Callable[[], None] = nothing,
    ) -> bool:
        """Add numbers to other fields than those in which they are. Blocks, for several calls.

        :param moves: (field, other field), …
        :param forgotten: label sets that are no longer counted under.
        :param gone: the instance whose counts these are, and the seconds for which nothing must have been heard of
            it; None for this one's own.
        :returns: False if it is not gone.
        """

    def heard(self, within: float) -> list[str]:
        """The workers that an instance heard of in so many seconds. Blocks."""

    def gone(self, after: float) -> list[str]:
        """Some instances that have counted, and of which nothing was heard for so many seconds. Blocks."""


NOTHING_NEW: Mapping[str, str] = {}


class LeaderDuties(Protocol):
    """What the leader does with the whole fleet. Each call blocks, and does nothing if this instance does not lead."""

    def start_anew(self) -> None:
        """Forget how far it was: another instance led meanwhile. Does not block."""

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
        :param together: whether those that are lost now are announced in one event: they all fell silent at once.
        :param watermark: age of the fleet's watermark, and for how long it has been known, in seconds; None if there is
            none yet. No worker is declared lost for silence after it; what came since it is known, and claims to be
            older than it, is of a clock that is behind.
        :param consumes: the one queue that a worker consumes, or an empty text for several, by nodename, where that is
            new: events of tasks without a queue are counted there.
        """

    def losses(self, *, report: bool) -> list[OutboxItem]:
        """Find out which events were lost.

        :param report: whether it is announced and counted; else what is kept to find it is only brought up to date.
        """

    def incidents(self, changes: IncidentChanges) -> list[OutboxItem]:
        """Write what became of the incidents, and announce which opened or are over, in one."""

    def schedules(self, changes: ScheduleChanges) -> bool:
        """Write what was found out of schedules; whether all of it is written: not if this instance does not lead."""

    @property
    def all_accounted(self) -> bool:
        """Whether `losses` has looked at all processes, so that it begins with the first again. Asks nobody."""


class OpenTasks(Protocol):
    """Tasks that go no further, as the leader finds and confirms them. Each call blocks."""

    def candidates(self) -> Candidates | None:
        """What there is to ask about; None if this instance does not lead."""

    def confirm(
        self, required_watermark: int, confirmations: Sequence[tuple[Candidate, Confirmation]]
    ) -> list[OutboxItem] | None:
        """Announce or reconcile what is still as it was found; None if it is too early for that.

        :param required_watermark: when the questions were answered and no message waited in the queue of events, as
            `Candidates.at`: all instances must have merged what they had been given by then.
        """


class Attempts(Protocol):
    """How often the handling of a redelivered message began, over all instances. Each call blocks.

    Messages are named by a text of their own.
    """

    def begin(self, names: Sequence[str], below: int) -> list[int]:
        """Note that the handling of messages begins, of each only if it began fewer than `below` times so far.

        :returns: how often it had begun before, for each.
        """

    def succeeded(self, names: Sequence[str]) -> None:
        """Messages were merged: how often they were begun does not matter any more."""

    def set_aside(self, name: str, entry: bytes) -> None:
        """Keep what can be told of a message, as JSON; only the newest are kept."""


class SharedRecord(NamedTuple):
    """All that one instance needs of the shared record. `attempts` apart, only the loop may use it."""

    store: Store
    duties: LeaderDuties
    open_tasks: OpenTasks
    attempts: Attempts
    deliveries: Deliveries
