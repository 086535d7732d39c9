"""Whether another instance runs under the name of this one: both would count for the same metrics, and be listed as one
that did not die, whichever does.
"""

from __future__ import annotations

from collections.abc import Iterable

from ha_monitor.clock import Clock
from ha_monitor.outputs.line import Identity
from ha_monitor.outputs.log import Logger
from ha_monitor.store.results import Peer

LEASES = 2.0
"""For how many lengths of a lease another one must have been there: one that died is so for one at most."""


class Namesakes:
    """Tells of each once while it lasts."""

    def __init__(self, identity: Identity, lease: float, logger: Logger, clock: Clock) -> None:
        """:param lease: its length in seconds."""
        self._identity = identity
        self._there_for = LEASES * lease
        self._logger = logger
        self._clock = clock
        self._since: dict[int, float] = {}
        """Tokens of those that were found, and when they were first."""
        self._told: set[int] = set()

    def look(self, older: Iterable[Peer]) -> None:
        """Compare with instances that registered earlier: of two, the later one tells."""
        own, now = self._identity, self._clock.monotonic()
        found = {one.token: one for one in older if self._has_its_name(one)}
        self._since = {token: self._since.get(token, now) for token in found}
        self._told &= found.keys()
        for token, one in found.items():
            if now - self._since[token] >= self._there_for and token not in self._told:
                self._told.add(token)
                self._logger.warning(
                    "instance-name-taken",
                    reason=f"instance {own.instance} on {own.host} runs twice, as pid {_pid_of(one)} and as pid "
                    f"{own.pid}: their metrics are mixed, and nobody is told if one of them dies; give each a name of "
                    "its own (--instance)",
                )

    def _has_its_name(self, one: Peer) -> bool:
        return (one.who.get("instance"), one.who.get("host")) == (self._identity.instance, self._identity.host)


def _pid_of(one: Peer) -> int | str:
    pid = one.who.get("pid")
    return pid if isinstance(pid, int) else "unknown"
