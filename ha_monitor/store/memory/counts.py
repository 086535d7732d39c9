"""The counts of a store that counts nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from ha_monitor.store.api import nothing
from ha_monitor.store.counts import Counts


class Calls(Protocol):
    """Makes calls, which may fail."""

    def call(self, name: str, work: Callable[[], Any]) -> Any:
        """Make a call with this name."""


class MemoryCounts:
    """See `api.CountStore`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self.outdated = True
        self.stored = Counts()
        """The counts that a test has set."""

    def read(self, keep_alive: Callable[[], None] = nothing) -> Counts:
        self._calls.call("counts", lambda: None)
        self.outdated = False
        return self.stored

    def read_of(self, name: str, keep_alive: Callable[[], None] = nothing) -> Counts:
        return Counts()

    def take_changes(self) -> list[bytes]:
        return []

    def make_room(self, room: int, reserve: int) -> None:
        pass

    def publish(self, label_sets: Sequence[bytes]) -> None:
        pass

    def restore(self, counts: Mapping[bytes, int], keep_alive: Callable[[], None] = nothing) -> None:
        pass

    def move(
        self,
        moves: Sequence[tuple[bytes, bytes]],
        forgotten: Sequence[bytes] = (),
        gone: tuple[str, float] | None = None,
        keep_alive: Callable[[], None] = nothing,
    ) -> bool:
        return True

    def heard(self, within: float) -> list[str]:
        return []

    def gone(self, after: float) -> list[str]:
        return []
