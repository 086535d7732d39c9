"""Incidents, silences and marks of deployments: see `incidents.py`; and what else the rules read."""

from __future__ import annotations

from typing import Any

from ha_monitor.store.deliveries import read_notified, with_notified
from ha_monitor.store.incidents import MAX_MARKS, MAX_SILENCES, Incident, Mark, Silence, with_silences, worst_first
from ha_monitor.store.memory.queries import MemoryQueries
from ha_monitor.store.memory.schedules import MemorySchedules
from ha_monitor.store.memory.server import MemoryServer
from ha_monitor.store.reader import InstanceEntry


class MemoryIncidents:
    """Needs no lease."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    def incidents(self) -> list[Incident]:
        known = with_notified(self.kept(), read_notified(self._server.messages.notified))
        return worst_first(with_silences(known, self.silences(), self._server.clock.time()))

    def kept(self) -> list[Incident]:
        """See `RedisIncidents.kept`."""
        self._server.trouble("before incidents")
        return list(self._server.incidents.values())

    def silences(self) -> list[Silence]:
        now = self._server.clock.time()
        return sorted((one for one in self._server.silences.values() if one.until > now), key=lambda one: one.until)

    def silence(self, silence: Silence) -> bool:
        lasting = {one.id: one for one in self.silences() if one.id != silence.id}
        if len(lasting) >= MAX_SILENCES:
            return False
        self._server.silences = lasting | {silence.id: silence}
        return True

    def end(self, silence_id: str) -> bool:
        return self._server.silences.pop(silence_id, None) is not None

    def marks(self) -> list[Mark]:
        return list(self._server.marks)

    def mark(self, mark: Mark) -> None:
        self._server.marks.insert(0, mark)
        del self._server.marks[MAX_MARKS:]


class MemoryReader:
    """Like `StoreReader`, as far as the rules use it."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server
        self.queries = MemoryQueries(server)
        self.incidents = MemoryIncidents(server)
        self.schedules = MemorySchedules(server)

    def connect(self) -> None:
        self._server.trouble("before reader")

    def close(self) -> None: ...

    def instances(self) -> list[InstanceEntry]:
        now, server = self._server.clock.time(), self._server
        return [
            InstanceEntry(
                token,
                one.lease_until - now,
                one.who,
                one.stats,
                now - one.seen,
                len(one.outbox),
                server.leader == token,
            )
            for token, one in server.instances.items()
        ]

    def latest(self, kind: str, count: int) -> list[dict[str, Any]]:
        """See `StoreReader.latest`; only for takeovers."""
        assert kind == "takeovers"
        taken = self._server.taken_over.items()
        return [{"token": str(token), "who": one.who, "at": one.seen * 1000} for token, one in taken][:count]

    def server(self) -> tuple[dict[str, str], str]:
        return self._server.server_info, ""
