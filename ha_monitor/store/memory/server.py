"""What the instances share."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct, field

from ha_monitor.clock import Clock
from ha_monitor.events.error_group import group_id
from ha_monitor.events.model import Event
from ha_monitor.schedules.learned import Habit
from ha_monitor.schedules.model import Judgement, Source
from ha_monitor.store.incidents import Incident, Mark, Silence
from ha_monitor.store.memory.task import KeptError, MemoryTask
from ha_monitor.store.name_statistics import KEPT, RUN_TIME
from ha_monitor.store.outbox import Entry, OutboxItem
from ha_monitor.store.queries import Gap
from ha_monitor.store.results import StoreInfo, Takeover
from ha_monitor.store.schedules import Coverage, KnownSource
from ha_monitor.store.tail import TailEvent
from ha_monitor.store.worker_runs import LostRun

MERGE_GRACE = 1.0
"""Seconds; as in merged.lua."""
REQUEUED_WITHIN = 5.0
"""Seconds; as in unregister.lua."""
MIN_STEP = 1.0
"""Seconds by which the clock must be put back for its deadlines to be checked."""


class MemoryInstance(Struct):
    """What is stored about one instance."""

    who: dict[str, Any]
    lease_until: float
    """Seconds since the epoch."""
    lease: float
    """Its length in seconds."""
    calls: int = 0
    left_by: int = 0
    """The latest call that merged a batch only in part."""
    stats: dict[str, Any] = field(default_factory=dict)
    merged_until: float = 0.0
    outbox: list[Entry] = field(default_factory=list)
    next_sequence: int = 0
    """Sequence number of the next item."""
    seen: float = 0.0
    before: int = 0
    """Its previous token; 0 if it had none."""
    recovered_until: int = 0
    """Sequence number after the last item that comes from another outbox."""
    took: tuple[int, Sequence[Takeover]] = (0, ())
    """The number of the call in which it last took something over, and what."""

    def push(self, entries: Sequence[Entry], *, recovered: int = 0) -> list[OutboxItem]:
        """Append entries. :param recovered: how many of the last ones come from another outbox."""
        first = self.next_sequence
        self.outbox += entries
        self.next_sequence += len(entries)
        own = len(entries) - recovered
        if recovered:
            self.recovered_until = self.next_sequence
        return [OutboxItem(first + number, entry, number >= own) for number, entry in enumerate(entries)]

    def trim(self, announced: int) -> None:
        """Delete the items below a sequence number."""
        self.next_sequence = max(self.next_sequence, announced)
        del self.outbox[: max(0, announced - (self.next_sequence - len(self.outbox)))]


class GroupedErrors(Struct):
    """The errors of a group."""

    name: str
    """Of their task."""
    errors: list[KeptError] = field(default_factory=list)
    resolved: int | None = None
    """What a person said about the group, as in `error_groups.GroupFacts`."""
    ignored: int | None = None


class KeptMessages(Struct):
    """Messages to the channels, in the form that `deliveries.delivery_state` reads."""

    claims: dict[bytes, bytes] = field(default_factory=dict)
    notified: dict[bytes, bytes] = field(default_factory=dict)
    taken: dict[bytes, bytes] = field(default_factory=dict)


class KeptErrors(Struct):
    """All errors."""

    groups: dict[str, GroupedErrors] = field(default_factory=dict)
    """By the id of the group."""
    since: float | None = None
    """When the first instance registered, seconds since the epoch."""


class KeptSchedules(Struct):
    """What is stored about schedules."""

    judgements: dict[str, Judgement] = field(default_factory=dict)
    """By name, with all due times."""
    sources: dict[Source, KnownSource] = field(default_factory=dict)
    habits: dict[str, Habit] = field(default_factory=dict)
    """By the name of the task."""
    coverage: Coverage | None = None


class MemoryServer:
    """The record of one `node_id`. Tests may look at everything in it."""

    def __init__(self, clock: Clock) -> None:  # noqa: PLR0915 - a line for each table
        self.clock = clock
        self.trouble: Callable[[str], None] = lambda _moment: None
        """Called before and after each call, as in `before tick`; what it raises reaches the caller. After a call, that
        stands for a lost reply.
        """
        self.answers: Callable[[], bool] = lambda: True
        """Whether the reply to a batch has arrived when it is looked for; False stands for a store that is far away."""
        self.is_slow = False
        """Whether each call takes long."""
        self.merges_early: Callable[[], bool] = lambda: False
        """Whether batches in flight are merged before their replies are looked for."""
        self.most_tasks: int | None = None
        """Tasks that one call merges at most, as if their records were large; None for all."""
        self.server_id = b"0"
        """Another one after a start or a fail-over."""
        self.served: tuple[bytes | None, int] = (None, 0)
        """The latest `server_id` that an instance found, and since when the fleet uses it, as `Store.served_since`."""
        self.instances: dict[int, MemoryInstance] = {}
        self.tasks: dict[str, MemoryTask] = {}
        self.awaiting: dict[str, None] = {}
        """Ids of the tasks that had announcements waiting when they were last merged; see `waiting_tasks`."""
        self.messages = KeptMessages()
        self.others: set[bytes] = set()
        """Ids of events that belong to no task."""
        self.taken_over: dict[int, MemoryInstance] = {}
        """Instances whose outboxes were taken over, by their tokens, as they were then."""
        self.interrupted: set[str] = set()
        """Ids of events that were announced before the store went back, and are not to be announced again."""
        self.workers: dict[str, tuple[float, str]] = {}
        """When each was last heard of, and the type of its latest event."""
        self.came: dict[str, float] = {}
        """When each sent worker-online, by its own clock."""
        self.lost_workers: set[str] = set()
        self.lost_events: list[Event] = []
        """What the leader's next search for lost events finds."""
        self.queues: dict[str, float] = {}
        """Queues that workers consume, as the leader found them, and when."""
        self.worker_queues: dict[str, str] = {}
        """The queue of each worker that consumes only one."""
        self.found: dict[str, tuple[str, str, int]] = {}
        """Tasks that were announced as stuck or orphaned, in which phase, and since when."""
        self.names_heard = 0
        """How often the name of a task became known."""
        self.gaps: list[Gap] = []
        """What was reported as lost."""
        self.orphaned_at: dict[str, float] = {}
        """When tasks were last announced as orphaned."""
        self.leader: int | None = None
        self.retries: list[tuple[float, Entry]] = []
        self.dead_letters: list[bytes] = []
        self.rejected: list[bytes] = []
        self.errors = KeptErrors()
        self.runs: Counter[tuple[str, int, int]] = Counter()
        """Name, minute and key (as in statistics.lua) -> count."""
        self.worker_runs: Counter[tuple[str, int, bool]] = Counter()
        """Worker, minute and whether they failed -> runs that ended."""
        self.abandoned: dict[tuple[str, str], float] = {}
        """Worker and id of a task that it may have left -> when that was found."""
        self.lost_runs: dict[LostRun, tuple[float, bool]] = {}
        """When it was found, and whether its worker is known to have been lost."""
        self.begun: dict[str, int] = {}
        self.set_aside: list[bytes] = []
        self.requeue_delay = 0.0
        """Seconds for which the broker may keep the messages of an instance that vanished."""
        self.requeued_at = float("-inf")
        """Until when messages of an instance whose link broke may be redelivered."""
        self.taken_over_at = float("-inf")
        """When an outbox was last taken over."""
        self.went_back_at = 0
        """When the store was last found to have gone back, ms since the epoch; 0 if never."""
        self.ticked_at = float("-inf")
        """When the last tick of any instance was."""
        self.tail: list[TailEvent] = []
        self.tail_wanted_until = float("-inf")
        self.info = StoreInfo()
        self.server_info: dict[str, str] = {}
        """What the store reports about itself, as in the reply to INFO."""
        self.incidents: dict[str, Incident] = {}
        self.silences: dict[str, Silence] = {}
        self.marks: list[Mark] = []
        self.schedules = KeptSchedules()
        self.last_token = 0

    def state(self) -> dict[str, Any]:
        """Everything that is stored, as it is now."""
        apart = ("clock", "trouble", "answers", "is_slow", "merges_early", "server_id")
        return copy.deepcopy({name: value for name, value in vars(self).items() if name not in apart})

    def go_back(self, state: dict[str, Any]) -> None:
        """Go back to what `state` has returned, like a Redis that lost the rest."""
        vars(self).update(copy.deepcopy(state))

    def waiting_tasks(self) -> list[MemoryTask]:
        """The tasks with announcements that wait for missing facts. It does not look at all tasks, often many."""
        found = {one: task for one in self.awaiting if (task := self.tasks[one]).announce_until is not None}
        self.awaiting = dict.fromkeys(found)
        return list(found.values())

    def group_errors(self, task_id: str, task: MemoryTask, waited_enough: float = float("-inf")) -> None:
        """Put the errors of a task into their groups."""
        for error in task.take_errors(waited_enough=waited_enough):
            self.keep_error(task.facts.name, error._replace(task_id=task_id))

    def keep_error(self, name: str | None, error: KeptError) -> None:
        """Put an error into its group. :param name: of its task, if it is known."""
        key = group_id(name, error.error[0])
        now = int(self.clock.time() * 1_000_000)
        group = self.errors.groups.setdefault(key, GroupedErrors(name or "unknown"))
        group.errors.append(error if 0 < error.at <= now else error._replace(at=now))

    def count_runs(self, task: MemoryTask) -> None:
        """Count the ended runs of a task, by its name."""
        now = int(self.clock.time() * 1_000_000)
        for code, at, bucket in task.take_runs():
            if 0 < at < now - KEPT * 1_000_000:
                continue
            minute = (at if 0 < at <= now else now) // 60_000_000
            key = code if bucket is None else RUN_TIME + bucket
            self.runs[task.facts.name or "", minute, key] += 1

    def without_announced(self, entries: Sequence[Entry]) -> list[Entry]:
        """The entries without those that were announced before the store went back, as in `lua/outbox.lua`."""
        again = {entry.event.id for entry in entries if entry.kind == 0} & self.interrupted
        self.interrupted -= again
        return [entry for entry in entries if entry.kind or entry.event.id not in again]

    def put(self, own: MemoryInstance, entries: Sequence[Entry], *, recovered: int = 0) -> list[OutboxItem]:
        """Append entries to an outbox, and the instance's own ones to the tail while somebody watches.

        :param recovered: how many of the last ones come from another outbox.
        """
        now = self.clock.time()
        if self.tail_wanted_until > now:
            shown = entries[: len(entries) - recovered]
            self.tail += [TailEvent(one, now, own.who) for one in shown if one.kind == 0]
        return own.push(entries, recovered=recovered)

    def enter(self, instance: MemoryInstance) -> int:
        """Give an instance a new token, which is new even if the store has lost its data, as in `lua/tokens.lua`."""
        now, last = int(self.clock.time() * 1000), self.last_token
        if self.served[0] != self.server_id:
            self.served = (self.server_id, max(now, last) if last else 0)
        self.last_token = max(last + 1, now)
        if self.errors.since is None:
            self.errors.since = self.clock.time()
        instance.merged_until = instance.merged_until or self.clock.time()  # it has received nothing until now
        self.instances[self.last_token] = instance
        return self.last_token

    def why_lost(self, token: int) -> str:
        """Why an instance no longer has a lease, as in `lua/lease.lua`."""
        if token in self.taken_over:
            return "TAKEN_OVER"
        is_moved = any(one.before == token for one in self.instances.values())
        return "MOVED" if is_moved else "FORGOTTEN"

    def note_rollback(self, known: int, since: float, calls: int) -> list[int] | None:
        """See `lua/rollback.lua`."""
        if self.went_back_at > known:
            return None
        self.went_back_at = max(int(self.clock.time() * 1000), known + 1)
        return [int(since * 1000), calls]

    def went_back_within(self, seconds: float) -> bool:
        """Whether the store was found to have gone back less than so many seconds ago."""
        return 0 <= self.clock.time() - self.went_back_at / 1000 < seconds

    def tick(self, longest_wait: float) -> float:
        """Bring back every deadline that lies too far ahead, if the clock was put back since the previous tick.

        :param longest_wait: seconds for which an announcement waits.
        :returns: the seconds by which it was put back; 0 if it was not.
        """
        now, before = self.clock.time(), self.ticked_at
        self.ticked_at = now
        if before - now < MIN_STEP:
            return 0.0
        for one in self.instances.values():
            one.lease_until = min(one.lease_until, now + one.lease)
            one.merged_until = min(one.merged_until, 0.0)
        for task in self.tasks.values():
            task.put_clock_back(now, longest_wait)
        self.retries = [(min(at, now), entry) for at, entry in self.retries]
        self.requeued_at = min(self.requeued_at, now + self.requeue_delay)
        self.workers = {name: (min(heard, now), said) for name, (heard, said) in self.workers.items()}
        return before - now

    def merged_by_all(self) -> float:
        """The time until which all living instances have merged what they received, seconds since the epoch; 0 while
        messages may be redelivered.
        """
        now = self.clock.time()
        # A time in the future is from before the clock was put back.
        merged = [one.merged_until if one.merged_until <= now else 0.0 for one in self.instances.values()]
        least = min(merged, default=now)
        taken = self.taken_over_at if self.taken_over_at <= now else float("-inf")
        return least if least >= max(self.requeued_at, taken + self.requeue_delay) + MERGE_GRACE else 0.0
