"""Reads the shared record without being an instance: the same answer from any machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ha_monitor.config.schema import StoreSettings
from ha_monitor.errors import StoreRefused
from ha_monitor.store.connection import StoreConnection, refusal_in
from ha_monitor.store.keys import Keys
from ha_monitor.store.packing import as_lua_string, json_object
from ha_monitor.store.queries import Queries
from ha_monitor.store.redis_queries import RedisQueries
from ha_monitor.store.sentinel_url import is_sentinel_url, parse_sentinel_url

if TYPE_CHECKING:
    from ha_monitor.clock import Clock
    from ha_monitor.store.agreement import Agreement
    from ha_monitor.store.dead_letters import DeadLetters
    from ha_monitor.store.error_groups import ErrorMarks
    from ha_monitor.store.redis_incidents import RedisIncidents
    from ha_monitor.store.redis_schedules import RedisSchedules
    from ha_monitor.store.results import StoreInfo
    from ha_monitor.store.tail import Tail

MAX_WORKERS = 2000
"""Workers that are read at most, so that the answer comes in time."""
AT_ONCE = 100
"""Workers that one call reads, so that none blocks Redis for long."""
READS_ONLY = "EVAL_RO"
"""The command for scripts that only read, from Redis 7.0 on."""
_MAX_NUMBER = 2**53


class InstanceEntry(NamedTuple):
    """What Redis holds about one instance."""

    token: int
    lease_left: float
    """Seconds; negative once the lease has expired."""
    who: dict[str, Any]
    stats: dict[str, Any]
    silent: float
    """Seconds since its last sign of life."""
    outbox: int
    """Entries that are not announced, or not known to be announced."""
    leads: bool
    """Whether it is the leader, which watches workers and tasks for the fleet."""


class WorkerEntry(NamedTuple):
    """What Redis holds about one Celery worker."""

    name: str
    silent: float
    """Seconds since any instance heard of it."""
    heartbeat: dict[str, Any]
    """The fields of its latest heartbeat."""
    state: str
    """See `WorkerState.state`."""
    sends: bool = False
    """Whether an event proves that its process sends task events."""
    unsent: int = 0
    """The number of its latest runs without any event: most likely it sends none."""
    skew: float = 0.0
    """Seconds by which its clock is ahead (negative: behind), as the leader has measured; 0 if it is about right."""
    online: float | None = None
    """When it sent worker-online, seconds since the epoch; None if no instance received that."""
    lost: float | None = None
    """For a lost worker: when an instance last heard of it, seconds since the epoch."""
    is_confirmed: bool = True
    """See `WorkerState.is_confirmed`."""


class Workers(NamedTuple):
    """The workers that were read."""

    entries: list[WorkerEntry]
    more: int
    """How many more there are."""


class Counts(NamedTuple):
    """Sizes of the data that the instances share."""

    waiting: int
    retries: int
    dead_letters: int
    rejected: int
    takeovers: int
    stuck: int
    orphaned: int


class StoreReader:
    """A connection for reading. `connect` first; every method raises `StoreUnavailable` if Redis is unavailable.

    Each method imports what it needs, since a command asks only one or two of the questions.
    """

    def __init__(self, settings: StoreSettings, node_id: str) -> None:
        self._settings = settings
        self._connection = StoreConnection(settings)
        self._keys = Keys(settings.prefix, node_id)
        self._evaluate = "EVAL"

    def validate(self) -> None:
        """Check whether `store.url` could ever be used, without connecting.

        :raises ConfigurationError: if it could not.
        """
        self._connection.validate()

    def connect(self) -> None:
        self._connection.connect()

    def close(self) -> None:
        self._connection.close()

    def verify_primary(self) -> None:
        """Leave a Redis that the sentinels no longer name as the primary.

        :raises StoreUnavailable: if they name another one.
        """
        self._connection.verify_primary()

    def is_used(self) -> bool:
        """Whether an instance of this node_id has ever registered here."""
        return bool(self._connection.call("EXISTS", self._keys.format))

    @property
    def queries(self) -> Queries:
        """The questions that can be asked, over this connection."""
        return RedisQueries(self._connection, self._keys)

    @property
    def error_marks(self) -> ErrorMarks:
        """What a person says about groups of errors, over this connection."""
        from ha_monitor.store.error_marks import RedisErrorMarks

        return RedisErrorMarks(self._connection, self._keys)

    @property
    def incidents(self) -> RedisIncidents:
        """Incidents, silences and marks of deployments, over this connection."""
        from ha_monitor.store.redis_incidents import RedisIncidents

        return RedisIncidents(self._connection.call_all, self._keys)

    @property
    def schedules(self) -> RedisSchedules:
        """What is known about schedules, over this connection."""
        from ha_monitor.store.redis_schedules import RedisSchedules

        return RedisSchedules(self._connection.call_all, self._keys)

    @property
    def dead_letters(self) -> DeadLetters:
        """The dead letters, over this connection."""
        from ha_monitor.store.redis_dead_letters import RedisDeadLetters

        return RedisDeadLetters(self._connection, self._keys)

    def tail(self, clock: Clock) -> Tail:
        """The tail of the fleet, over this connection; it continues when that is made anew."""
        from ha_monitor.store.redis_tail import RedisTail

        return RedisTail(self._connection, self._keys, clock, self._settings.timeout)

    def agreement(self, clock: Clock, *, keeps_open: bool) -> Agreement:
        """A check of all records and indexes, over this connection.

        :param keeps_open: whether the instances keep the index of open tasks (`stuck.enabled`).
        """
        from ha_monitor.store.agreement import Agreement

        ttl = self._settings.failure_ttl
        return Agreement(self._connection, self._keys, clock, failure_ttl=ttl, keeps_open=keeps_open)

    def instances(self) -> list[InstanceEntry]:
        """All instances that have not left, oldest first, including dead ones that were not taken over yet."""
        call = self._connection.call
        now = self.queries.now()
        leases = call("ZRANGE", self._keys.leases, 0, -1, "WITHSCORES")
        leader = call("GET", self._keys.leader)
        entries = []
        found = ((leases[i], _number(leases[i + 1])) for i in range(0, len(leases), 2))
        for token, until in sorted((int(token), until) for token, until in found if token.isdigit()):
            who, stats, seen = call("HMGET", self._keys.instance(token), "who", "stats", "seen")
            entries.append(
                InstanceEntry(
                    token=token,
                    lease_left=until / 1000 - now,
                    who=json_object(who),
                    stats=json_object(stats),
                    silent=max(0.0, now - _number(seen) / 1000),
                    outbox=call("LLEN", self._keys.outbox(token)),
                    leads=leader == b"%d" % token,
                )
            )
        return entries

    def workers(self, late_after: float) -> Workers:
        """The workers that any instance has heard of, by name: the `MAX_WORKERS` heard of last.

        :param late_after: seconds of silence until a worker is late; only the leader declares one lost.
        """
        from ha_monitor.store.scripts import read_script

        call, keys = self._connection.call, self._keys
        script = read_script("workers")
        now = self.queries.now()
        known = call("ZCARD", keys.workers)
        raw = call("ZREVRANGE", keys.workers, 0, MAX_WORKERS - 1, "WITHSCORES")
        heard = [(raw[index], _number(raw[index + 1])) for index in range(0, len(raw), 2)]
        found = []
        for start in range(0, len(heard), AT_ONCE):
            some = heard[start : start + AT_ONCE]
            records = [keys.worker("").encode() + name for name, _ in some]
            options = {
                "prefix": keys.prefix,
                "at": int(now * 1000),
                "late_after": int(late_after * 1000),
                "heard": [(as_lua_string(name), int(at)) for name, at in some],
            }
            rows = self._run(script.source, *script.arguments(keys.shared(), {}, options, records))
            found += [_worker(name, at, row, now) for (name, at), row in zip(some, rows, strict=True)]
        return Workers(sorted(found, key=lambda one: one.name), max(known, len(found)) - len(found))

    def _run(self, source: str, *arguments: Any) -> Any:
        """The reply of a script that changes nothing. A user with read-only rights may run no other."""
        try:
            return self._connection.call(self._evaluate, source, *arguments)
        except StoreRefused as error:
            if self._evaluate == READS_ONLY or not error.lasting:
                raise
            self._connection.connect()
            try:
                found = self._connection.call(READS_ONLY, source, *arguments)
            except StoreRefused:
                raise error from None  # not because the user is read-only: what such a user needs would not help
            self._evaluate = READS_ONLY
            return found

    def counts(self) -> Counts:
        call, keys = self._connection.call, self._keys
        return Counts(
            waiting=call("ZCARD", keys.waiting),
            retries=call("ZCARD", keys.retries),
            dead_letters=call("LLEN", keys.dead_letters),
            rejected=call("LLEN", keys.rejected),
            takeovers=call("LLEN", keys.takeovers),
            stuck=call("HLEN", keys.stuck),
            orphaned=call("HLEN", keys.orphaned),
        )

    def latest(self, kind: str, count: int) -> list[dict[str, Any]]:
        """The newest entries of `dead_letters`, `rejected` or `takeovers`, newest first."""
        key = getattr(self._keys, kind)
        return [json_object(entry) for entry in self._connection.call("LRANGE", key, 0, count - 1)]

    def server(self) -> tuple[dict[str, str], str]:
        """What Redis reports about itself (INFO); if that is forbidden, an empty result and the reason."""
        from ha_monitor.store.server_info import ASK, read_info

        raw = self._connection.call("EVAL", ASK, 0)
        info = read_info(raw)
        return info, "" if info else refusal_in(raw, self._settings, "info")

    def sentinel_problems(self) -> list[str]:
        """A sentence for each thing that prevents a fail-over by the sentinels in `store.url`, if there are any. Needs
        no connection.
        """
        from ha_monitor.store.sentinel_health import problems_of

        if not is_sentinel_url(self._settings.url):
            return []
        return problems_of(parse_sentinel_url(self._settings.url), self._settings.timeout / 2)

    def info(self, server: Mapping[str, str]) -> StoreInfo:
        """Which settings may make Redis lose what it has confirmed, and how many keys it has evicted.

        :param server: as `server` returns it.
        """
        from ha_monitor.store.server_info import store_info

        by_sentinel, waits = is_sentinel_url(self._settings.url), self._settings.min_replicas > 0
        return store_info(server, by_sentinel=by_sentinel, waits=waits)

    def try_rights(self) -> None:
        """Use each right that an instance needs once, on a key that does not exist.

        :raises StoreUnavailable: naming the first right that is missing, or why Redis accepts no writes.
        """
        call, key, script = self._connection.call, f"{self._keys.prefix}none", "return 1"
        call("EVALSHA", call("SCRIPT", "LOAD", script), 1, key)
        call("EVAL", script, 1, key)
        call("GET", key)
        # Writes nothing, since the list does not exist; refused like any write that needs memory, disk or replicas.
        call("LPUSHX", key, "")


def _worker(name: bytes, heard: float, row: bytes, now: float) -> WorkerEntry:
    record = json_object(row)
    # cjson encodes an empty table as an object.
    heartbeat, said = record.get("heartbeat"), record.get("said")
    fields = (heartbeat or said or {}).get("fields")
    return WorkerEntry(
        name=name.decode("utf-8", "replace"),
        silent=max(0.0, now - heard / 1000),
        heartbeat=fields if isinstance(fields, dict) else {},
        state=str(record["state"]),
        sends=bool(record.get("sends")),
        unsent=int(record.get("unsent", 0)),
        skew=-float(record.get("skew", 0)) / 1000,
        online=float(record["online"]) / 1e6 if record.get("online") else None,
        lost=float(record["lost"]) / 1000 if record.get("lost") else None,
        is_confirmed=not record.get("unconfirmed"),
    )


def _number(raw: bytes | None) -> float:
    """A number in Redis; 0 if there is none, or if it is foreign."""
    try:
        value = float(raw or 0)
    except ValueError:
        return 0.0
    return value if abs(value) <= _MAX_NUMBER else 0.0
