"""Reads the shared record without being an instance: the same answer from any machine."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from ha_monitor.config.schema import Store as StoreSettings
from ha_monitor.store.connection import StoreConnection
from ha_monitor.store.keys import Keys
from ha_monitor.store.scripts import read_scripts


class InstanceEntry(NamedTuple):
    """What Redis holds about one instance."""

    token: int
    lease_left: float
    """Seconds; negative once the lease has run out."""
    who: dict[str, Any]
    stats: dict[str, Any]
    silent: float
    """Seconds since its last sign of life."""
    outbox: int
    """Entries that are not announced, or not known to be."""
    leads: bool
    """It watches over workers and tasks for the fleet."""


class WorkerEntry(NamedTuple):
    """What Redis holds about one Celery worker."""

    name: str
    silent: float
    """Seconds since any instance heard of it."""
    heartbeat: dict[str, Any]
    """The fields of its latest heartbeat."""
    said: str | None
    """`worker-online` or `worker-offline`, if that came after its latest heartbeat."""
    sends: bool = False
    """An event shows that its process sends task events."""
    unsent: int = 0
    """Its latest runs of which no event came: most likely it sends none."""


class Counts(NamedTuple):
    """Sizes of what the instances share."""

    waiting: int
    retries: int
    dead_letters: int
    rejected: int
    takeovers: int
    stuck: int
    orphaned: int


class StoreReader:
    """A connection for reading. `connect` first; every method raises `StoreUnavailable` if Redis is away."""

    def __init__(self, settings: StoreSettings, node_id: str) -> None:
        self._connection = StoreConnection(settings)
        self._keys = Keys(settings.prefix, node_id)

    def connect(self) -> None:
        self._connection.connect()

    def close(self) -> None:
        self._connection.close()

    def instances(self) -> list[InstanceEntry]:
        """All instances that have not left, oldest first, including those that are dead and not yet taken over."""
        call = self._connection.call
        now = self._now()
        leases = call("ZRANGE", self._keys.leases, 0, -1, "WITHSCORES")
        leader = call("GET", self._keys.leader)
        entries = []
        for token, until in sorted((int(leases[i]), float(leases[i + 1])) for i in range(0, len(leases), 2)):
            who, stats, seen = call("HMGET", self._keys.instance(token), "who", "stats", "seen")
            entries.append(
                InstanceEntry(
                    token=token,
                    lease_left=until / 1000 - now,
                    who=json.loads(who or b"{}"),
                    stats=json.loads(stats or b"{}"),
                    silent=max(0.0, now - int(seen or 0) / 1000),
                    outbox=call("LLEN", self._keys.outbox(token)),
                    leads=leader == b"%d" % token,
                )
            )
        return entries

    def workers(self) -> list[WorkerEntry]:
        """All workers of which an instance has heard, by name."""
        script = read_scripts()["workers"]
        now = self._now()
        keys = (self._keys.workers, self._keys.processes)
        rows = self._connection.call("EVAL", script.source, len(keys), *keys, self._keys.prefix)
        return sorted(_worker(row, now) for row in rows)

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
        return [json.loads(entry) for entry in self._connection.call("LRANGE", key, 0, count - 1)]

    def server(self) -> dict[str, str]:
        """What Redis says about itself (INFO)."""
        text = self._connection.call("INFO").decode("utf-8", "replace")
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    def try_rights(self) -> None:
        """Use once each of the rights that an instance needs, on a key that does not exist.

        :raises StoreUnavailable: naming the first right that is missing.
        """
        call, key, script = self._connection.call, f"{self._keys.prefix}none", "return 1"
        call("EVALSHA", call("SCRIPT", "LOAD", script), 1, key)
        call("EVAL", script, 1, key)
        call("GET", key)
        call("DEL", key)

    def _now(self) -> float:
        seconds, microseconds = self._connection.call("TIME")
        return int(seconds) + int(microseconds) / 1e6


def _worker(row: list[bytes], now: float) -> WorkerEntry:
    record = json.loads(row[2])
    # cjson writes an empty table as an object, and no table at all if nothing is known.
    heartbeat, said = record.get("heartbeat"), record.get("said")
    fields = (heartbeat or said or {}).get("fields")
    latest = said["type"] if said and (not heartbeat or said["time"] >= heartbeat["time"]) else None
    return WorkerEntry(
        name=row[0].decode("utf-8", "replace"),
        silent=max(0.0, now - float(row[1]) / 1000),
        heartbeat=fields if isinstance(fields, dict) else {},
        said=latest,
        sends=record["sends"],
        unsent=int(record["unsent"]),
    )
