"""Checks whether another instance runs with the same name as this one. If so, both count for the same metrics, and when
one of them dies, nobody notices, since the name is still listed.
"""

from __future__ import annotations

from collections.abc import Iterable

from ha_monitor.clock import Clock
from ha_monitor.outputs.line import Identity
from ha_monitor.outputs.log import Logger
from ha_monitor.store.results import Peer

MIN_LEASES = 2.0
"""For how many lease lengths another instance must be listed: one that died is listed for at most one."""


class DuplicateNames:
    """Reports each other instance with the same name once while it lasts."""

    def __init__(self, identity: Identity, lease: float, logger: Logger, clock: Clock) -> None:
        """:param lease: length of a lease in seconds."""
        self._identity = identity
        self._report_after = MIN_LEASES * lease
        self._logger = logger
        self._clock = clock
        self._since: dict[int, float] = {}
        """Token of an instance with the same name → when it was first found."""
        self._reported: set[int] = set()

    def look(self, older: Iterable[Peer]) -> None:
        """Compare this instance with those that registered earlier: of two, the later one reports."""
        own, now = self._identity, self._clock.monotonic()
        found = {one.token: one for one in older if self._has_same_name(one)}
        self._since = {token: self._since.get(token, now) for token in found}
        self._reported &= found.keys()
        for token, one in found.items():
            if now - self._since[token] >= self._report_after and token not in self._reported:
                self._reported.add(token)
                self._logger.warning(
                    "instance-name-taken",
                    reason=f"instance {own.instance} on {own.host} runs twice, as pid {_pid_of(one)} and as pid "
                    f"{own.pid}: their metrics are mixed, and the death of one goes unnoticed; give each its own name "
                    "(--instance)",
                )

    def _has_same_name(self, one: Peer) -> bool:
        return (one.who.get("instance"), one.who.get("host")) == (self._identity.instance, self._identity.host)


def _pid_of(one: Peer) -> int | str:
    pid = one.who.get("pid")
    return pid if isinstance(pid, int) else "unknown"
