"""What an instance remembers of its calls, by which it finds that the store went back to an earlier state."""

from __future__ import annotations

from collections.abc import Sequence

from ha_monitor.store.results import Rollback


class RollbackMemory:
    """The one owner of what an instance remembers for it. The scripts compare (`lua/lease.lua`, `lua/register.lua`)."""

    def __init__(self) -> None:
        self.calls = 0
        """Calls under the present lease that were confirmed."""
        self.known = 0
        """When the last rollback was noticed that this instance knows of, ms since the epoch; 0 if none."""
        self._untold: Rollback | None = None

    def registered(self, reply: Sequence[int | list[int]]) -> None:
        """The instance has a new token, for which no call is counted yet.

        :param reply: {when the last rollback was noticed, what is to be told of it if this call has found it}.
        """
        self.calls = 0
        self._noticed(reply)

    def confirmed(self, reply: Sequence[int | list[int]]) -> None:
        """A call has returned.

        :param reply: {calls counted with this one, …as for `registered`}; empty if the call was not counted.
        """
        if reply:
            self.calls = _number(reply[0])
            self._noticed(reply[1:])

    def take(self) -> Rollback | None:
        """What is to be told, once: a rollback that this instance was the first to notice."""
        untold, self._untold = self._untold, None
        return untold

    def _noticed(self, reply: Sequence[int | list[int]]) -> None:
        self.known = max(self.known, _number(reply[0]))
        if len(reply) > 1 and isinstance(found := reply[1], list):
            since, calls = found
            self._untold = Rollback(self.known / 1000, since / 1000 if since else None, calls)


def _number(value: int | list[int]) -> int:
    return value if isinstance(value, int) else 0
