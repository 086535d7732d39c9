"""The names of the keys in Redis."""

from __future__ import annotations

from typing import NamedTuple

FORMAT = 2
"""Version of the layout of the keys and values; instances of different versions refuse to run together."""


class Kind(NamedTuple):
    """What a key holds."""

    type: str
    """The type's name in Redis."""
    holds: str
    """Times are in ms since the epoch, unless stated otherwise."""
    needed: bool = False
    """Whether announcements would be lost with it. A foreign value in place of any other key may be set aside."""
    is_number: bool = False
    """Whether the string is a whole number."""
    number: str = ""
    """The field of a hash, a whole number, without which the hash is useless; empty if there is none."""


TYPES = {
    "leases": Kind("zset", "token of a living instance -> end of its lease", needed=True),
    "waiting": Kind("zset", "id of a task with announcements or counts that wait -> their deadline", needed=True),
    "tokens": Kind("string", "the last token issued", is_number=True),
    "rollback": Kind("string", "when it was last found that this store had gone back", is_number=True),
    "clock": Kind("string", "what Redis's clock said at the last tick of any instance", is_number=True),
    "format": Kind("string", "version of this layout", is_number=True),
    "served": Kind("string", "MessagePack: {which Redis the fleet uses, since when as a token} (server.lua)"),
    "unfinished": Kind("string", "MessagePack: {instance, outbox, number of the first entry, entries before it}"),
    "interrupted": Kind(
        "set",
        "what is not to be announced again: of interrupted calls, and what was announced before this store went back: "
        "ids of events, digests of entries",
    ),
    "tail": Kind("stream", "what the fleet announces, while somebody watches (outbox.lua)"),
    "tail_wanted": Kind(
        "string",
        "how many announcements were put into the tail, and some more; there while somebody watches (tail.py)",
        is_number=True,
    ),
    "producers": Kind("hash", "task name, or for retries <name>\\31retry -> when its task-sent was last seen, in s"),
    "workers": Kind("zset", "nodename -> when an instance last heard of it"),
    "retries": Kind("zset", "outbox entry for one handler -> when it is due"),
    "takeovers": Kind("list", "the latest takeovers as JSON, newest first"),
    "rejected": Kind("list", "the latest messages that could not be handled as JSON, newest first"),
    "leader": Kind("string", "the token of the leader"),
    "liveness": Kind(
        "hash",
        "nodename -> its state (liveness.lua); after a lost one, the time in µs of its last event, when it was last "
        "heard of before, and when it was first heard of again, or 0",
    ),
    "processes": Kind("zset", "<nodename>\\31<pid> of a worker's process -> when an instance last heard of it"),
    "requeued": Kind("string", "until when messages of an instance may be requeued", is_number=True),
    "queues": Kind("zset", "queue of tasks -> when a worker was last seen to consume it"),
    "worker_queues": Kind("hash", "nodename of a worker that consumes one queue of tasks -> that queue"),
    "dead_letters": Kind("list", "what failed for good as JSON, newest first"),
    "open": Kind("zset", "id of a task that is not finished -> when candidates.lua looks at it"),
    "open_since": Kind(
        "zset", "id of an open task that the leader has looked at -> when it was first heard of (index/open_since.lua)"
    ),
    "waits": Kind(
        "zset",
        "id of a task that has not started -> the number of its queue times 2^42, plus since when it could have "
        "(index/waits.lua)",
    ),
    "wait_queues": Kind("hash", "queue in which tasks have waited -> its number in `waits`"),
    "stuck": Kind("hash", "id of a task that was announced as stuck -> the phase it then was in, and since when in µs"),
    "orphaned": Kind("hash", "the same for those that were announced as orphaned"),
    "ended_badly": Kind(
        "zset",
        "id of a task that failed, was rejected, revoked or orphaned -> when, times 16, plus what of these "
        "(index/ended_badly.lua)",
    ),
    "abandoned": Kind(
        "zset",
        "'<bytes of the nodename>:<nodename><task id>' of a task that a worker may have left -> when that was found "
        "(index/abandoned.lua)",
    ),
    "lost_runs": Kind(
        "zset",
        "'?' or '!', then '<bytes of the nodename>:<nodename><start in µs>:<task id>' of a run that another worker "
        "took, or whose worker was lost -> when that was found (index/abandoned.lua)",
    ),
    "names": Kind("zset", "name of a task -> when a task of that name was last heard of for the first time"),
    "baselines": Kind("hash", "task name -> '<runs> <mean in s>' (baseline.lua)"),
    "set_aside": Kind("list", "messages that nobody could handle as JSON, newest first"),
    "orphan_scan": Kind(
        "string",
        "MessagePack: {cursor of ZSCAN, times to go through `open`, {task to look at before that, …}} "
        "(orphan_scan.lua); expires after a minute",
    ),
    "unconfirmed": Kind("zset", "nodename of a worker that is not confirmed -> when it was first heard of"),
    "young": Kind("zset", "nodename of a confirmed worker with a short life so far -> when it was last heard of"),
    "skewed": Kind("hash", "nodenames whose clocks are wrong -> ms by which they are behind (negative: ahead)"),
    "caught_up": Kind("string", "the watermark of the fleet: all that was sent until then is merged", is_number=True),
    "announced_workers": Kind(
        "hash", "unconfirmed, confirmed -> lines of single workers that were written lately; expires"
    ),
    "overflow_workers": Kind(
        "string", "MessagePack: {kind of line -> {number of workers for one line, the first names}}"
    ),
    "briefs": Kind("string", "MessagePack: how many hashes of brief records there are, by generation (briefs.lua)"),
    "gaps": Kind("list", "what was lost as JSON, newest first: {what, since, until, worker, lost, told}"),
    "errors": Kind("zset", "id of an error group -> when its last error was"),
    "errors_since": Kind("string", "since when groups of errors are kept", is_number=True),
    "label_sets": Kind(
        "zset", "<task name>\\31<worker>\\31<queue> that some instance counts under -> when it was added"
    ),
    "counting": Kind("zset", "name of an instance that counts -> when it last ticked"),
    "incidents": Kind("hash", "id of an incident -> the incident as JSON (incidents.lua)"),
    "silences": Kind("hash", "id of a silence -> the silence as JSON; expires with the last"),
    "deploys": Kind("list", "the latest marks of deployments as JSON, newest first"),
    "notify_claims": Kind("hash", "id of a message that is being delivered -> its claim as JSON (deliveries.py)"),
    "notify_told": Kind(
        "hash", "<incident>\\31<channel> -> what the channel was told about it as JSON (deliveries.py)"
    ),
    "notify_taken": Kind("zset", "id of a message that a channel took in the last hour -> when"),
    "schedules": Kind("hash", "name of a schedule -> its judgement as JSON, without its due times (schedules.py)"),
    "schedule_runs": Kind("hash", "name of a schedule -> its latest due times and what came of each as JSON"),
    "schedule_sources": Kind("hash", "what is asked for schedules -> its last answer as JSON"),
    "schedule_habits": Kind("hash", "name of a task that may run regularly -> when it ran lately as JSON"),
    "schedule_coverage": Kind("string", "the periods for which the fleet has all events, as JSON"),
    "refusals": Kind("hash", "table -> entries for which there was no room (tables.lua)"),
}
"""The keys that exist once, by their attribute of `Keys`."""

OWN = {
    "instance": Kind(
        "hash",
        "who, stats, seen, merged; `before`: its last token; `lease`: its length; "
        "`first_look`: after how many ms it has open tasks looked at first; `calls`: how many it made; "
        "`behind`: the next sequence number of its outbox; `taken`: how many entries of that another instance "
        "has taken over; `recovered`: the sequence number after the last entry taken over from another instance; "
        "`left_by`: the latest of its calls that did not merge all of its batch; "
        "`took`: MessagePack: what it took over at last, as in `takeovers`, and in which of its calls",
        needed=True,
        number="behind",
    ),
    "outbox": Kind("list", "entries that the instance has yet to announce (outbox.py)", needed=True),
    "counts": Kind("hash", "what the instance has counted (counting.lua)"),
}
"""The keys that exist once for each instance."""

NAMES = TYPES | OWN
"""All keys that scripts name."""


class Family(NamedTuple):
    """Keys of which there are many, told apart by what follows the mark."""

    mark: str
    """What their names begin with, after the prefix."""
    type: str
    """The type's name in Redis."""
    holds: str


FAMILIES = {
    "task": Family("t:", "string", "the record of a task, by its id (record.lua)"),
    "brief": Family(
        "r:", "hash", "brief records of some tasks, by '<generation>:<place>' (briefs.lua): task id -> record"
    ),
    "brief_texts": Family("x:", "hash", "numbers that stand for texts in brief records, by the generation of these"),
    "worker": Family("w:", "string", "the record of a worker, by its nodename (worker.lua)"),
    "event": Family("s:", "string", "nothing; the event of that id was seen (ids.lua, merge/others.lua)"),
    "heartbeats": Family("b:", "string", "those of a process (merge/activity.lua)"),
    "starts": Family("p:", "string", "the times of a process's task-started (merge/activity.lua)"),
    "account": Family("l:", "string", "what losses.lua knows of a process"),
    "newest": Family("n:", "list", "ids of the tasks of a name, newest first (index/names.lua)"),
    "children": Family("c:", "list", "ids of the tasks whose root a task is, newest first (index/children.lua)"),
    "error": Family("g:", "string", "a group of errors, by its id (error_groups.lua)"),
    "statistics": Family(
        "m:", "hash", "those of a name in an hour, by '<hour since the epoch>:<name>' (statistics.lua)"
    ),
    "flow": Family(
        "f:",
        "hash",
        "what came into a queue and left it, by '<hour since the epoch>:<queue>' (index/flow.lua)",
    ),
    "worker_runs": Family(
        "d:", "hash", "runs that ended on each worker, by '<ten minutes since the epoch>' (worker_runs.lua)"
    ),
    "attempt": Family("a:", "string", "how often the handling of a message has begun since it last succeeded"),
    "instance": Family("instance:", *OWN["instance"][:2]),
    "outbox": Family("outbox:", *OWN["outbox"][:2]),
    "counts": Family("counts:", *OWN["counts"][:2]),
}
"""The keys of which there are many."""


class Keys:
    """The keys of one `node_id`.

    All have the same hash tag, so they are in one slot of a Redis Cluster and a script may use all of them.
    `TYPES`, `OWN` and `FAMILIES` say what each holds.
    """

    def __init__(self, prefix: str, node_id: str) -> None:
        self.prefix = f"{{{prefix}:{node_id}}}:"
        self.leases = self.prefix + "leases"
        self.tokens = self.prefix + "tokens"
        self.clock = self.prefix + "clock"
        self.rollback = self.prefix + "rollback"
        self.format, self.served = self.prefix + "format", self.prefix + "served"
        self.waiting = self.prefix + "waiting"
        self.tail = self.prefix + "tail"
        self.tail_wanted = self.prefix + "tail-wanted"
        self.producers = self.prefix + "producers"
        self.workers = self.prefix + "workers"
        self.retries = self.prefix + "retries"
        self.takeovers = self.prefix + "takeovers"
        self.rejected = self.prefix + "rejected"
        self.leader = self.prefix + "leader"
        self.liveness = self.prefix + "liveness"
        self.processes = self.prefix + "processes"
        self.requeued = self.prefix + "requeued"
        self.queues = self.prefix + "queues"
        self.worker_queues = self.prefix + "worker-queues"
        self.dead_letters = self.prefix + "dead-letters"
        self.open = self.prefix + "open"
        self.open_since, self.waits, self.wait_queues = (
            self.prefix + name for name in ("open-since", "waits", "wait-queues")
        )
        self.stuck = self.prefix + "stuck"
        self.orphaned = self.prefix + "orphaned"
        self.ended_badly = self.prefix + "ended-badly"
        self.abandoned, self.lost_runs = self.prefix + "abandoned", self.prefix + "lost-runs"
        self.names = self.prefix + "names"
        self.baselines = self.prefix + "baselines"
        self.set_aside = self.prefix + "set-aside"
        self.orphan_scan = self.prefix + "orphan-scan"
        self.unconfirmed = self.prefix + "unconfirmed"
        self.young = self.prefix + "young"
        self.skewed = self.prefix + "skewed"
        self.caught_up = self.prefix + "caught-up"
        self.announced_workers = self.prefix + "announced-workers"
        self.overflow_workers = self.prefix + "overflow-workers"
        self.briefs = self.prefix + "briefs"
        self.incidents, self.silences, self.deploys = (
            self.prefix + name for name in ("incidents", "silences", "deploys")
        )
        self.notify_claims, self.notify_told, self.notify_taken = (
            self.prefix + name for name in ("notify-claims", "notify-told", "notify-taken")
        )
        self.schedules, self.schedule_runs, self.schedule_sources, self.schedule_coverage = (
            self.prefix + name for name in ("schedules", "schedule-runs", "schedule-sources", "schedule-coverage")
        )
        self.schedule_habits = self.prefix + "schedule-habits"
        self.gaps, self.errors, self.errors_since = (self.prefix + name for name in ("gaps", "errors", "errors-since"))
        self.refusals = self.prefix + "refusals"
        self.label_sets = self.prefix + "label-sets"
        self.counting = self.prefix + "counting"
        self.unfinished = self.prefix + "unfinished"
        self.interrupted = self.prefix + "interrupted"
        self.aside = self.prefix + "foreign:"
        """Prefix of foreign values that were set aside."""

    def shared(self) -> dict[str, str]:
        """The keys that exist once, by name."""
        return {name: getattr(self, name) for name in TYPES}

    def for_scripts(self, token: int, counts: str) -> dict[str, str]:
        """All keys that scripts name, by name.

        :param token: of the calling instance.
        :param counts: the key of its counts.
        """
        return self.shared() | {"instance": self.instance(token), "outbox": self.outbox(token), "counts": counts}

    def task(self, task_id: str) -> str:
        return self._one_of("task", task_id)

    def brief(self, place: str) -> str:
        """:param place: `<generation>:<place>`."""
        return self._one_of("brief", place)

    def brief_texts(self, generation: int) -> str:
        return self._one_of("brief_texts", str(generation))

    def newest(self, name: str) -> str:
        return self._one_of("newest", name)

    def children(self, root_id: str) -> str:
        return self._one_of("children", root_id)

    def worker(self, nodename: str) -> str:
        return self._one_of("worker", nodename)

    def instance(self, token: int) -> str:
        return self._one_of("instance", str(token))

    def outbox(self, token: int) -> str:
        return self._one_of("outbox", str(token))

    def error(self, group_id: str) -> str:
        return self._one_of("error", group_id)

    def statistics_of(self, name: str, hour: int) -> str:
        """:param hour: since the epoch."""
        return self._one_of("statistics", f"{hour}:{name}")

    def flow_of(self, queue: str, hour: int) -> str:
        """:param hour: since the epoch."""
        return self._one_of("flow", f"{hour}:{queue}")

    def worker_runs_of(self, ten: int) -> str:
        """:param ten: ten minutes since the epoch."""
        return self._one_of("worker_runs", str(ten))

    def attempt(self, name: str) -> str:
        return self._one_of("attempt", name)

    def counts(self, name: str) -> str:
        """:param name: of the instance; unlike its token, the same after a restart."""
        return self._one_of("counts", name)

    def _one_of(self, family: str, name: str) -> str:
        return f"{self.prefix}{FAMILIES[family].mark}{name}"
